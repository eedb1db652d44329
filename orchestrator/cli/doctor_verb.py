"""The verb that says what is missing on this machine."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.launch.doctor import Check, examine

COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


def register(app: typer.Typer) -> None:
    """Add the verb of this file."""
    app.command()(doctor)


def doctor(
    root: Annotated[
        Path,
        typer.Option("--root", envvar="ORCHESTRATOR_ROOT", help="Folder that holds runs/ and data/.", file_okay=False, show_default="here"),
    ] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what is missing on this machine, with a fix for each line. Exit code 1 when something has to be mended."""
    checks = examine(root)
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(check) for check in checks], indent=2, ensure_ascii=False))
    elif sys.stdout.isatty():
        _print_table(checks)
    else:
        for check in checks:
            typer.echo(f"{check.status:4}  {check.name}: {check.found}" + (f"\n      fix: {check.fix}" if check.fix else ""))
    if any(check.status == "fail" for check in checks):
        raise typer.Exit(1)


def _print_table(checks: tuple[Check, ...]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for heading in ("", "check", "found", "fix"):
        table.add_column(heading)
    for check in checks:
        table.add_row(Text(check.status, COLOURS[check.status]), check.name, Text(check.found), Text(check.fix))
    Console().print(table)
