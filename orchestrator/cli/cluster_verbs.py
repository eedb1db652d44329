"""submit, and the verbs about runs where the run is on a cluster."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.options import HERE, AsJson, JobFile, Overrides, open_root
from orchestrator.errors import ClusterError, JobError, Problem

if TYPE_CHECKING:
    from orchestrator.launch.submit import Parcel
    from orchestrator.stages.jobs import Jobs, Submission

RootThere = Annotated[
    Path,
    typer.Option(
        "--root", envvar="ORCHESTRATOR_ROOT", help="Folder for runs/ and data/ that all nodes of the cluster share.", show_default="here"
    ),
]
DETACHED = 130


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(submit)


def submit(
    job: JobFile,
    overrides: Overrides = None,
    address: Annotated[
        str, typer.Option("--address", envvar="ORCHESTRATOR_ADDRESS", help="The cluster's dashboard, for example http://HOST:8265.")
    ] = "",
    root: RootThere = HERE,
    package: Annotated[Path, typer.Option("--package", help="Folder with the code that travels.", show_default="here")] = HERE,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be sent.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Return when the run is submitted.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send a job to a Ray cluster and follow it; Ctrl-C only ends the following."""
    from orchestrator.launch.submit import make_parcel, open_jobs, send
    from orchestrator.spec.load import load_job

    loaded = load_job(job, overrides or ())
    parcel = make_parcel(loaded, overrides or (), open_root(root), package.resolve())
    if dry_run:
        _print_parcel(parcel, as_json=as_json)
        return
    if not address:
        raise JobError((Problem("--address", "which cluster? give its dashboard, for example --address http://HOST:8265"),))
    jobs = open_jobs(address)
    _report_sent(jobs, send(jobs, parcel, _announce), detach=detach, as_json=as_json)


def resume_submitted(address: str, name: str, epochs: int | None) -> None:
    """Start a run on the cluster again; it continues where its folder there says it stands, to more epochs where that is asked for."""
    from orchestrator.launch.submit import find_submission, make_resume_parcel, open_jobs, send

    jobs = open_jobs(address)
    found = find_submission(jobs, name)
    parcel = make_resume_parcel(found.run, Path(found.root), HERE.resolve(), epochs)
    _report_sent(jobs, send(jobs, parcel, _announce), detach=False, as_json=False)


def list_submitted(address: str, *, as_json: bool) -> None:
    """All our submissions on the cluster, the newest first."""
    from orchestrator.launch.submit import open_jobs

    submissions = open_jobs(address).list()
    if as_json:
        typer.echo(json.dumps([asdict(submission) for submission in submissions], indent=2, ensure_ascii=False))
        return
    if not submissions:
        typer.echo(f"no runs at {address}; send one with: orchestrator submit JOB --address {address}", err=True)
    width = max((len(submission.id) for submission in submissions), default=0)
    for submission in submissions:
        typer.echo(f"{submission.id:<{width}}  {submission.status:<8}  {_moment(submission.started)}  {submission.root}")


def status_submitted(address: str, name: str, *, as_json: bool) -> None:
    """How a submitted run stands."""
    from orchestrator.launch.submit import find_submission, open_jobs

    submission = find_submission(open_jobs(address), name)
    if as_json:
        typer.echo(json.dumps(asdict(submission), indent=2, ensure_ascii=False))
        return
    typer.echo(f"{submission.id}  {submission.status}")
    typer.echo(f"  started   {_moment(submission.started)}")
    if submission.ended:
        typer.echo(f"  ended     {_moment(submission.ended)}")
    typer.echo(f"  folder    {submission.root}/runs/{submission.run}")
    if submission.exit_code is not None:
        typer.echo(f"  exit code {submission.exit_code}")
    if submission.status == "failed":
        typer.echo(f"  message   {_last_line(submission.message)}")


def logs_submitted(address: str, name: str, *, follow: bool) -> None:
    """What a submitted run printed."""
    from orchestrator.launch.submit import find_submission, open_jobs

    jobs = open_jobs(address)
    submission = find_submission(jobs, name)
    if follow:
        _follow(jobs, submission)
    else:
        typer.echo(jobs.logs(submission.id), nl=False)


def stop_submitted(address: str, name: str) -> None:
    """Save a checkpoint and stop a submitted run."""
    from orchestrator.launch.submit import find_submission, open_jobs, stop_submission

    jobs = open_jobs(address)
    submission = find_submission(jobs, name)
    if submission.is_over:
        typer.echo(f"{submission.run} is {submission.status}; nothing to stop")
        return
    stopped = stop_submission(jobs, submission)
    typer.echo(f"{stopped.run} is {stopped.status}")
    typer.echo(f"next    orchestrator resume {stopped.run} --address {address}")


def _report_sent(jobs: Jobs, submission: Submission, *, detach: bool, as_json: bool) -> None:
    from orchestrator.launch.submit import exit_code_of

    _announce(f"folder  {submission.root}/runs/{submission.run}")
    if detach or submission.status == "done":
        typer.echo(json.dumps(asdict(submission), indent=2) if as_json else submission.run)
        return
    _follow(jobs, submission)
    ended = jobs.get(submission.id)
    if as_json:
        typer.echo(json.dumps(asdict(ended), indent=2, ensure_ascii=False))
    if ended.exit_code is None and ended.status == "failed":
        raise ClusterError(f"{ended.id} failed on the cluster: {_last_line(ended.message)}", f"the cluster's dashboard is {jobs.address}")
    _announce(f"{ended.id} is {ended.status}")
    sys.exit(exit_code_of(ended))


def _follow(jobs: Jobs, submission: Submission) -> None:
    try:
        for text in jobs.follow(submission.id):
            sys.stdout.write(text)
            sys.stdout.flush()
    except KeyboardInterrupt:
        _announce(f"\ndetached; {submission.run} goes on")
        _announce(f"follow  orchestrator logs -f {submission.run} --address {jobs.address}")
        _announce(f"stop    orchestrator stop {submission.run} --address {jobs.address}")
        sys.exit(DETACHED)


def _print_parcel(parcel: Parcel, *, as_json: bool) -> None:
    from orchestrator.launch.package import describe_package
    from orchestrator.units import format_bytes

    package = parcel.package
    if as_json:
        facts = {"run": parcel.run, "root": str(parcel.root), "command": parcel.command, "size": package.size, "files": package.files}
        typer.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    for name in package.files:
        typer.echo(name)
    typer.echo(f"\nlargest  {describe_package(package)}")
    for name, size in package.largest:
        typer.echo(f"{format_bytes(size):>10}  {name}")
    typer.echo(f"\nrun      {parcel.run}\nroot     {parcel.root}\ncommand  {parcel.command}")


def _moment(seconds: float | None) -> str:
    return "-" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no message")


def _announce(line: str) -> None:
    typer.echo(line, err=True)
