"""dashboard: a local page over all runs."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from orchestrator.cli.options import HERE, RootOption, open_root


def register(app: typer.Typer) -> None:
    """Add the verb of this file."""
    app.command()(dashboard)


def dashboard(
    root: RootOption = HERE,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on this machine; 0 takes a free one.")] = 8700,
) -> None:
    """Show every run in the browser: live curves, stages, trials, events, reports. Read only, without Ray; Ctrl-C ends it."""
    from orchestrator.dashboard.server import serve

    asyncio.run(serve(open_root(root), port, typer.echo))
