"""The verbs that look at runs from outside: list, status, logs, stop."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import cluster_verbs
from orchestrator.cli.options import HERE, AddressOption, AsJson, RootOption, RunName, open_root

if TYPE_CHECKING:
    from orchestrator.reports.state import RunState


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command("list")(list_runs)
    app.command()(status)
    app.command()(logs)
    app.command()(stop)


def list_runs(root: RootOption = HERE, as_json: AsJson = False, address: AddressOption = "") -> None:
    """All runs, the newest first."""
    if address:
        cluster_verbs.list_submitted(address, as_json=as_json)
        return
    from orchestrator.reports.state import look_at_all, state_json

    states = look_at_all(open_root(root))
    if as_json:
        typer.echo(json.dumps([state_json(state) for state in states], indent=2, ensure_ascii=False))
        return
    if not states:
        typer.echo("no runs here; start one with: orchestrator run JOB", err=True)
    width = max((len(state.report.run) for state in states), default=0)
    for state in states:
        typer.echo(f"{state.report.run:<{width}}  {state.status:<11}  {state.stage:<8}  {_result(state)}".rstrip())


def status(name: RunName, root: RootOption = HERE, as_json: AsJson = False, address: AddressOption = "") -> None:
    """How a run stands, and who works on it."""
    if address:
        cluster_verbs.status_submitted(address, name, as_json=as_json)
        return
    from orchestrator.reports.state import look, state_json
    from orchestrator.reports.text import report_text

    state = look(open_root(root).find_run(name))
    if as_json:
        typer.echo(json.dumps(state_json(state), indent=2, ensure_ascii=False))
        return
    typer.echo(report_text(state.report))
    if state.holder:
        typer.echo(f"worked on by {state.holder}")
    elif state.status == "lost":
        typer.echo(f"its process is gone; continue with: orchestrator resume {state.report.run}")


def logs(
    name: RunName,
    root: RootOption = HERE,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Wait for more while somebody works on the run.")] = False,
    address: AddressOption = "",
) -> None:
    """What happened in a run, line by line."""
    if address:
        cluster_verbs.logs_submitted(address, name, follow=follow)
        return
    from orchestrator.cli.progress import ProgressView
    from orchestrator.launch.watching import follow_events

    view = ProgressView(sys.stdout, interactive=False)
    for event in follow_events(open_root(root).find_run(name), until_end=follow):
        view.show(event)
    view.close()


def stop(name: RunName, root: RootOption = HERE, address: AddressOption = "") -> None:
    """Save a checkpoint and stop, as the first Ctrl-C does."""
    if address:
        cluster_verbs.stop_submitted(address, name)
        return
    from orchestrator.launch.watching import stop_run

    folder = open_root(root).find_run(name)
    if not stop_run(folder):
        typer.echo(f"nobody works on {folder.name}")
        return
    typer.echo(f"stopped {folder.name}")
    typer.echo(f"next    orchestrator resume {folder.name}")


def _result(state: RunState) -> str:
    report = state.report
    if report.metrics:
        return f"{report.metrics.split} accuracy {report.metrics.accuracy:.2%}"
    if report.study and report.study.after is not None:
        return f"{report.study.split} accuracy of the best trial {report.study.after:.2%}"
    best = report.training.best_validation_accuracy
    return "" if best is None else f"best validation accuracy {best:.2%}"
