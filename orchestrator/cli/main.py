"""The command line: parse, call one function, print. Data goes to stdout, progress and errors to stderr."""

from __future__ import annotations

import sys

import typer

from orchestrator import __version__
from orchestrator.cli import cluster_verbs, dashboard_verb, data_verbs, doctor_verb, job_verbs, run_verbs, watch_verbs
from orchestrator.errors import OrchestratorError

app = typer.Typer(
    name="orchestrator",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="From a folder of images to a trained and evaluated model, on Ray, from one job file.",
    epilog="First steps: [bold]orchestrator init FOLDER[/], then [bold]orchestrator run JOB[/].",
)
for verbs in (job_verbs, run_verbs, watch_verbs, cluster_verbs, dashboard_verb, data_verbs, doctor_verb):
    verbs.register(app)


def print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"orchestrator {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(False, "--version", help="Print the version.", callback=print_version, is_eager=True),
) -> None:
    """Options of the program itself."""


def main() -> None:
    """Entry point: errors meant for the user become one message and an exit code."""
    try:
        app()
    except OrchestratorError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 -- the one place that prints errors
        for note in getattr(error, "__notes__", ()):
            print(f"  note: {note}", file=sys.stderr)  # noqa: T201
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)  # noqa: T201
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)


if __name__ == "__main__":
    main()
