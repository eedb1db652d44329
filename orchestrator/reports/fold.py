"""A run folder folded into values. Nothing else is read, so a run can be reported at any time and anywhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from orchestrator.record.folder import RunFolder
from orchestrator.record.journal import Event, read_events
from orchestrator.reports.curves import fold_curves, fold_training
from orchestrator.reports.fields import counts, encodable, number, text, whole
from orchestrator.reports.health import parse_health
from orchestrator.reports.preview import parse_preview
from orchestrator.reports.study import fold_study
from orchestrator.reports.timeline import STARTS, fold_failure, fold_stages, fold_status, work_seconds
from orchestrator.reports.values import ClassReport, DataReport, DecisionReport, MetricsReport, RunReport

Value = TypeVar("Value")

SYNTHETIC = "synthetic"
"""What a start says of its feed when one batch from memory stands for the images."""

__all__ = ["RunReport", "fold"]


def fold(folder: RunFolder) -> RunReport:
    """What is known of a run that is running, done, failed or interrupted, or has barely begun.

    A damaged file becomes one of `RunReport.problems`; the rest of the report stands.
    """
    problems: list[str] = []
    events = read_events(folder.events)
    plan = _read_mapping(folder.plan, problems) or {}
    planned: Mapping[str, Any] = plan.get("train") or {}
    curves = fold_curves(events, whole(planned, "steps_per_epoch"))
    training = fold_training(events, curves, whole(planned, "epochs"))
    begun = [event for event in events if event["event"] in STARTS]
    last_start: Event = begun[-1] if begun else {}
    synthetic = text(last_start, "feed") == SYNTHETIC
    return RunReport(
        run=encodable(folder.name),
        job=text(last_start, "job"),
        synthetic=synthetic,
        status=fold_status(events),
        version=text(last_start, "version"),
        command=text(last_start, "command"),
        started=float(begun[0]["time"]) if begun else None,
        seconds=work_seconds(events),
        starts=len(begun),
        stages=fold_stages(events),
        data=_fold_data(events),
        health=_read_as(folder.health, parse_health, problems),
        preview=_read_as(folder.preview, parse_preview, problems),
        training=replace(training, best_epoch=None, best_validation_accuracy=None) if synthetic else training,
        epochs=curves.epochs,
        points=curves.points,
        metrics=_read_as(folder.metrics, _metrics, problems),
        study=fold_study(events),
        classes=tuple(encodable(str(name)) for name in plan.get("classes") or ()),
        decisions=tuple(_decision(decision) for decision in plan.get("decisions") or ()),
        error=fold_failure(events),
        ray_dashboard=text(last_start, "ray_dashboard"),
        resolved_job=_read_text(folder.resolved_job),
        problems=tuple(problems),
    )


def _fold_data(events: Sequence[Event]) -> DataReport | None:
    """The last commit; before it, the sum of the units that are done."""
    commits = [event for event in events if event["event"] == "DataPrepared"]
    units = {event.get("unit"): event for event in events if event["event"] == "UnitPrepared"}
    if not commits and not units:
        return None
    latest: Event = commits[-1] if commits else {}
    worked: Event = next((event for event in reversed(commits) if not event.get("reused")), {})
    last_unit: Event = list(units.values())[-1] if units else {}
    return DataReport(
        fingerprint=text(latest, "fingerprint"),
        rows=_total([latest] if commits else units.values(), "rows"),
        rejects=_total([latest] if commits else units.values(), "rejects"),
        reject_reasons=counts(latest, "reject_reasons"),
        splits=counts(latest, "splits"),
        skipped=counts(latest, "skipped"),
        seconds=number(worked, "seconds"),
        images_per_s=number(worked, "images_per_s") if commits else number(last_unit, "images_per_s"),
        reused=bool(commits) and not worked,
        units_done=whole(last_unit, "done"),
        units=whole(last_unit, "units"),
    )


def _total(events: Iterable[Event], key: str) -> int:
    return sum(whole(event, key) or 0 for event in events)


def _metrics(content: Mapping[str, Any]) -> MetricsReport:
    return MetricsReport(
        split=text(content, "split"),
        rows=int(content["rows"]),
        accuracy=float(content["accuracy"]),
        top5=number(content, "top5"),
        loss=number(content, "loss"),
        macro_f1=number(content, "macro_f1"),
        balanced_accuracy=number(content, "balanced_accuracy"),
        ece=number(content, "ece"),
        per_class=tuple(_class_report(entry) for entry in content.get("per_class") or ()),
        confusion=tuple(tuple(int(count) for count in row) for row in content.get("confusion") or ()),
    )


def _class_report(entry: Mapping[str, Any]) -> ClassReport:
    return ClassReport(
        text(entry, "name"), number(entry, "precision"), number(entry, "recall"), number(entry, "f1"), whole(entry, "support") or 0
    )


def _decision(entry: Mapping[str, Any]) -> DecisionReport:
    return DecisionReport(text(entry, "what"), text(entry, "value"), text(entry, "reason"))


def _read_text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "backslashreplace") if path.is_file() else ""


def _read_mapping(path: Path, problems: list[str]) -> Mapping[str, Any] | None:
    return _read_as(path, dict, problems)


def _read_as(path: Path, convert: Callable[[Any], Value], problems: list[str]) -> Value | None:
    """What a JSON file holds; `None` when it is not there, and a problem besides when it cannot be understood."""
    if not path.is_file():
        return None
    try:
        return convert(json.loads(path.read_bytes()))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        problems.append(f"{path.name} could not be read ({type(error).__name__}: {error}); this report leaves it out")
        return None
