"""The verbs about job files: init, validate, show, schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

JobFile = Annotated[Path, typer.Argument(metavar="JOB", help="The job file.")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Changes to the job, for example train.epochs=3.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(init)
    app.command()(validate)
    app.command()(show)
    app.command()(schema)


def init(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder with one folder of images per class.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The job file to write; <name>.yaml here when left out.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a job file for a folder of images."""
    from orchestrator.durable import write_atomically
    from orchestrator.errors import JobError, Problem
    from orchestrator.launch.images import folder_facts
    from orchestrator.spec.init import job_name, propose_job

    text = propose_job(folder, folder_facts(folder))
    path = output or Path(f"{job_name(folder)}.yaml")
    if path.exists() and not force:
        raise JobError((Problem(str(path), "exists already"),), "name another file with -o, or replace it with --force")
    write_atomically(path, text.encode())
    typer.echo(f"wrote {path}")
    typer.echo(f"next  orchestrator run {path}")


def validate(job: JobFile, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Check a job file: every mistake with its line."""
    from orchestrator.errors import JobError
    from orchestrator.spec.load import load_job

    try:
        loaded = load_job(job, overrides or ())
    except JobError as error:
        if not as_json:
            raise
        problems = [{"where": problem.where, "what": problem.what} for problem in error.problems]
        typer.echo(json.dumps({"valid": False, "problems": problems}, indent=2))
        raise typer.Exit(error.exit_code) from error
    if as_json:
        typer.echo(json.dumps({"valid": True, "problems": []}, indent=2))
        return
    spec = loaded.job
    typer.echo(f"{job} is valid")
    typer.echo(f"{spec.name}: {spec.model.label} on {spec.data.source}, {spec.train.epochs} epochs in batches of {spec.train.batch}")


def show(job: JobFile, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Print a job with every default; the output is a job file itself."""
    from orchestrator.spec.job import resolved
    from orchestrator.spec.load import load_job
    from orchestrator.spec.yaml import dump_yaml

    value = resolved(load_job(job, overrides or ()).job)
    typer.echo(json.dumps(value, indent=2) if as_json else dump_yaml(value), nl=as_json)


def schema() -> None:
    """Print the JSON schema of job files: every key with its meaning."""
    from orchestrator.spec.schema import schema_text

    typer.echo(schema_text(), nl=False)
