"""The pages as HTML. Everything that comes from a run folder is escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from jinja2 import ChoiceLoader, Environment, PackageLoader

from orchestrator.dashboard.reading import RunView, event_fields
from orchestrator.reports.html import ABSENT, environment, run_parts
from orchestrator.reports.state import RunState
from orchestrator.units import format_count, format_duration

HOST_AND_PORT = re.compile(r"[A-Za-z0-9.\-]{1,253}:[0-9]{1,5}")
STATUS_ORDER = ("running", "lost", "failed", "interrupted", "done")


@dataclass(frozen=True)
class Row:
    """A run in the list of runs."""

    state: RunState
    progress: str
    validation: float | None
    result: float | None
    """Accuracy of the evaluation, or of the best trial."""
    split: str
    speed: float | None
    """Images per second."""
    waiting: float | None
    """Share of the time spent waiting for data."""


def runs_page(root: Path, states: Sequence[RunState]) -> str:
    """The list of runs with its frame."""
    return _render("runs.html.j2", root=root, **_list_parts(states))


def runs_fragment(states: Sequence[RunState]) -> str:
    """The list alone, for a page that stays open."""
    return _render("runs_live.html.j2", **_list_parts(states))


def run_page(view: RunView) -> str:
    """A run with its frame."""
    return _render("run_page.html.j2", **_run_page_parts(view))


def run_fragment(view: RunView) -> str:
    """A run alone, for a page that stays open."""
    return _render("run_live.html.j2", **_run_page_parts(view))


def missing_page(what: str) -> str:
    """There is nothing under this address."""
    return _render("missing.html.j2", what=what)


def make_row(state: RunState) -> Row:
    report = state.report
    study, metrics = report.study, report.metrics
    last = report.points[-1] if report.points else None
    alive = state.status == "running"
    return Row(
        state=state,
        progress=progress_of(state),
        validation=report.training.best_validation_accuracy,
        result=metrics.accuracy if metrics else study.after if study else None,
        split=metrics.split if metrics else study.split if study else "",
        speed=last.images_per_s if last and alive else None,
        waiting=last.wait_share if last and alive else None,
    )


def progress_of(state: RunState) -> str:
    """Where a run stands, in a few words."""
    report = state.report
    if state.status == "done":
        return ABSENT
    if state.stage == "prepare" and report.data is not None and report.data.units:
        return f"{report.data.units_done} of {format_count(report.data.units, 'unit')}"
    if state.stage == "tune" and report.study is not None:
        return f"{len(report.study.trials)} of {format_count(report.study.planned, 'trial')}"
    if state.stage == "train" and report.training.planned_epochs:
        eta = report.points[-1].eta_s if report.points and state.status == "running" else None
        left = "" if eta is None else f", {format_duration(eta)} left"
        return f"{len(report.epochs)} of {format_count(report.training.planned_epochs, 'epoch')}{left}"
    return ABSENT


def ray_dashboard(state: RunState) -> str:
    """Address of Ray's own dashboard; empty when the cluster need not live any more."""
    address = state.report.ray_dashboard
    return f"http://{address}" if state.status == "running" and HOST_AND_PORT.fullmatch(address) else ""


def clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%H:%M:%S")


def _list_parts(states: Sequence[RunState]) -> dict[str, object]:
    counts = {status: sum(state.status == status for state in states) for status in STATUS_ORDER}
    return {"rows": [make_row(state) for state in states], "counts": {name: count for name, count in counts.items() if count}}


def _run_page_parts(view: RunView) -> dict[str, object]:
    return run_parts(view.state.report, view.mistakes) | {
        "view": view,
        "state": view.state,
        "status": view.state.status,
        "ray_dashboard": ray_dashboard(view.state),
        "is_live": view.state.status == "running",
        "is_trial": "/" in view.name,
        "run": view.name.partition("/")[0],
    }


def _render(template: str, **parts: object) -> str:
    return _environment().get_template(template).render(**parts)


@cache
def _environment() -> Environment:
    loader = ChoiceLoader([PackageLoader("orchestrator.dashboard"), PackageLoader("orchestrator.reports")])
    made = environment().overlay(loader=loader)
    made.filters = {**made.filters, "clock": clock, "fields": event_fields}
    return made
