"""Arguments and options that verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from orchestrator.record.folder import Root

JobFile = Annotated[Path, typer.Argument(metavar="JOB", help="The job file.")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Changes to the job, for example train.epochs=3.")]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="Name of a run, or the path of its folder.")]
RootOption = Annotated[
    Path,
    typer.Option("--root", envvar="ORCHESTRATOR_ROOT", help="Folder that holds runs/ and data/.", file_okay=False, show_default="here"),
]
InProcess = Annotated[bool, typer.Option("--in-process", help="Without Ray, in this process: slower, for debugging.")]
AddressOption = Annotated[
    str,
    typer.Option(
        "--address", envvar="ORCHESTRATOR_ADDRESS", help="Dashboard of the cluster that the run was submitted to: http://HOST:8265."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
HERE = Path()


def open_root(path: Path) -> Root:
    """The folder that holds runs/ and data/."""
    from orchestrator.record.folder import Root

    return Root(path.expanduser().resolve())
