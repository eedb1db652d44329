"""The verbs that do work: prepare, train, run, resume, evaluate; and those that look at it: plan, report."""

from __future__ import annotations

import json
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from orchestrator.cli.options import (
    HERE,
    AddressOption,
    AsJson,
    InProcess,
    JobFile,
    Overrides,
    RootOption,
    RunName,
    open_root,
)

if TYPE_CHECKING:
    from orchestrator.launch.run import RunOutcome
    from orchestrator.plan.values import Plan
    from orchestrator.record.folder import RunFolder
    from orchestrator.spec.load import LoadedJob


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(run)
    app.command()(prepare)
    app.command()(train)
    app.command()(evaluate)
    app.command()(tune)
    app.command()(resume)
    app.command()(plan)
    app.command()(report)


def run(
    job: JobFile,
    overrides: Overrides = None,
    root: RootOption = HERE,
    in_process: InProcess = False,
    name: Annotated[str, typer.Option(help="Name of the run; made from the job and its images when left out.")] = "",
) -> None:
    """Prepare, train, evaluate and report; what was done before is kept."""
    _do_job(job, overrides, root, until="everything", in_process=in_process, name=name)


def prepare(
    job: JobFile,
    overrides: Overrides = None,
    retry_rejects: Annotated[bool, typer.Option("--retry-rejects", help="First try the rejected images again.")] = False,
    root: RootOption = HERE,
    in_process: InProcess = False,
) -> None:
    """Decode and resize the images into shards that every run on them shares."""
    if retry_rejects:
        from orchestrator.launch.retry import retry_rejects as try_again
        from orchestrator.spec.load import load_job

        try_again(load_job(job, overrides or ()).job.data, open_root(root), _announce)
    _do_job(job, overrides, root, until="prepare", in_process=in_process)


def train(
    job: JobFile,
    overrides: Overrides = None,
    feed: Annotated[
        Literal["prepared", "synthetic"],
        typer.Option(
            help="synthetic: repeat one batch from memory, to learn how fast training could be if images cost nothing. "
            "One epoch unless train.epochs=N is given; a run of its own, without a model."
        ),
    ] = "prepared",
    root: RootOption = HERE,
    in_process: InProcess = False,
) -> None:
    """Prepare if needed, then train."""
    if feed == "synthetic":
        from orchestrator.launch.ceiling import measure_ceiling

        outcome, ceiling = measure_ceiling(
            job, overrides or (), open_root(root), in_process=in_process, command=_command(), watch=_watch, announce=_announce
        )
        _print_outcome(outcome)
        typer.echo(f"ceiling {ceiling}")
        return
    _do_job(job, overrides, root, until="train", in_process=in_process)


def tune(
    job: JobFile,
    overrides: Overrides = None,
    apply: Annotated[bool, typer.Option("--apply", help="Then train, evaluate and report the job with the best parameters.")] = False,
    root: RootOption = HERE,
) -> None:
    """Adjust the parameters under `tune.space` from the evaluation of trials, on images prepared once."""
    _do_job(job, overrides, root, until="tune", in_process=False, apply=apply)


def resume(
    name: RunName,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Epochs in all, more than the run has: it trains on, with the learning rate of the new total."),
    ] = None,
    root: RootOption = HERE,
    in_process: InProcess = False,
    address: AddressOption = "",
) -> None:
    """Continue a run that was interrupted, killed, or failed; with --epochs also one that is finished."""
    if address:
        from orchestrator.cli.cluster_verbs import resume_submitted

        resume_submitted(address, name, epochs)
        return
    from orchestrator.launch.resume import continued_job
    from orchestrator.launch.run import asked_before, is_synthetic

    folder = open_root(root).find_run(name)
    loaded = continued_job(folder, epochs)
    if epochs is not None:
        _announce(f"{folder.name} trains on to {epochs} epochs; the learning rate follows the schedule for the new total")
    until = asked_before(folder, loaded.job)
    _do_loaded(loaded, root, until=until, in_process=in_process, name=folder.name, synthetic=is_synthetic(folder))


def evaluate(
    name: RunName,
    split: Annotated[str, typer.Option(help="train, validation or test; the run's own choice when left out.")] = "",
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that share the split; as in training when left out.")] = None,
    root: RootOption = HERE,
    in_process: InProcess = False,
    as_json: AsJson = False,
) -> None:
    """Evaluate the model of a finished run again, on any split."""
    from orchestrator.launch.evaluate import evaluate_run

    folder = open_root(root).find_run(name)
    evaluate_run(folder, open_root(root), split=split, workers=workers, in_process=in_process, watch=_watch, announce=_announce)
    _print_report(folder, as_json=as_json)


def plan(
    job: JobFile,
    overrides: Overrides = None,
    cluster: Annotated[
        Path | None, typer.Option("--cluster", help="Plan for the cluster of this file (ray up, KubeRay, Slurm), without starting it.")
    ] = None,
    root: RootOption = HERE,
    as_json: AsJson = False,
) -> None:
    """What a run would do, with reasons, without doing it."""
    from orchestrator.launch.cluster import Reached, reached_cluster
    from orchestrator.launch.cluster_file import read_cluster_file
    from orchestrator.launch.run import STAGES, WANTED, everything, finished_stages, plan_job
    from orchestrator.spec.load import load_job

    loaded = load_job(job, overrides or ())
    planned = Reached(read_cluster_file(cluster)) if cluster else None
    with nullcontext(planned) if planned else reached_cluster(open_root(root), loaded.job.data.source, in_process=False) as reached:
        decided, folder, found = plan_job(loaded, open_root(root), reached.shape, examine=True)
    if as_json:
        typer.echo(json.dumps(decided.to_json() | {"run": folder.name, "skipped": found.listing.skipped}, indent=2))
        return
    done = finished_stages(folder)
    typer.echo(f"run  {folder.path}")
    stages = [stage for stage in STAGES if stage in WANTED[everything(loaded.job)]]
    typer.echo("stages  " + ", ".join(f"{stage} ({'done' if stage in done else 'to do'})" for stage in stages))
    _print_decisions(decided, found.listing.skipped)


def report(name: RunName, root: RootOption = HERE, as_json: AsJson = False) -> None:
    """Rebuild report.json and report.html of a run and print the short form."""
    from orchestrator.reports.summary import write_report

    folder = open_root(root).find_run(name)
    write_report(folder)
    _print_report(folder, as_json=as_json)


def _do_job(
    job: Path, overrides: list[str] | None, root: Path, *, until: str, in_process: bool, name: str = "", apply: bool = False
) -> None:
    from orchestrator.spec.load import load_job

    _do_loaded(load_job(job, overrides or ()), root, until=until, in_process=in_process, name=name, apply=apply)


def _do_loaded(
    job: LoadedJob, root: Path, *, until: str, in_process: bool, name: str = "", apply: bool = False, synthetic: bool = False
) -> None:
    from orchestrator.launch.run import RunRequest, everything, run_job, run_tuned

    wanted = everything(job.job) if until == "everything" else until
    request = RunRequest(job, open_root(root), wanted, in_process, _command(), _watch, _announce, name, synthetic)
    outcome = run_job(request)
    _print_outcome(outcome)
    if wanted == "all" or apply:
        _print_outcome(run_tuned(request, outcome.folder))


def _command() -> str:
    return " ".join(["orchestrator", *sys.argv[1:]])


def _print_outcome(outcome: RunOutcome) -> None:
    from orchestrator.reports.text import report_text

    folder = outcome.folder
    if outcome.reused:
        _announce(f"{folder.name} is finished; nothing to do")
    typer.echo(report_text(outcome.report))
    typer.echo(f"run     {folder.path}")
    typer.echo(f"report  {folder.report_html}")
    if folder.tuned_job.is_file():
        typer.echo(f"tuned   {folder.tuned_job}")
        typer.echo(f"next    orchestrator run {folder.tuned_job}")
    elif folder.metrics.is_file():
        typer.echo(f"next    orchestrator evaluate {folder.name} --split validation")


def _print_report(folder: RunFolder, *, as_json: bool) -> None:
    from orchestrator.reports.fold import fold
    from orchestrator.reports.summary import report_json
    from orchestrator.reports.text import report_text

    folded = fold(folder)
    if as_json:
        typer.echo(json.dumps(report_json(folded), indent=2, ensure_ascii=False))
        return
    typer.echo(report_text(folded))
    typer.echo(f"report  {folder.report_html}")


def _print_decisions(decided: Plan, skipped: dict[str, int]) -> None:
    width = max(len(decision.what) for decision in decided.decisions)
    for decision in decided.decisions:
        typer.echo(f"{decision.what:<{width}}  {decision.value}  ({decision.reason})")
    for rule, count in skipped.items():
        typer.echo(f"{'skipped':<{width}}  {count:,} {rule}")


def _watch(events: Path) -> AbstractContextManager[None]:
    from orchestrator.cli.progress import ProgressView, following

    return following(events, ProgressView(sys.stderr, interactive=sys.stderr.isatty()))


def _announce(line: str) -> None:
    typer.echo(line, err=True)
