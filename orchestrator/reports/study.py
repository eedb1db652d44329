"""Events of a study folded into its trials and what came of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.record.journal import Event
from orchestrator.reports.fields import encodable, number, text, whole
from orchestrator.reports.values import StudyReport, TrialReport


def fold_study(events: Sequence[Event]) -> StudyReport | None:
    """What the last start of the study says, completed by what earlier ones said of their trials."""
    begun: Event | None = next((event for event in reversed(events) if event["event"] == "StudyStarted"), None)
    if begun is None:
        return None
    ended: Event = next((event for event in reversed(events) if event["event"] == "StudyFinished"), {})
    told = ended.get("trials")
    trials = [_told_trial(trial) for trial in told if isinstance(trial, Mapping)] if isinstance(told, list) else _running_trials(events)
    before, after = ended.get("before"), ended.get("after")
    return StudyReport(
        metric=text(begun, "metric"),
        planned=whole(begun, "trials") or len(trials),
        trials=tuple(trials),
        best=whole(ended, "best"),
        split=text(ended, "split"),
        before=number(before, "accuracy") if isinstance(before, Mapping) else None,
        after=number(after, "accuracy") if isinstance(after, Mapping) else None,
        original_images_read=whole(ended, "original_images_read"),
    )


def parameters_of(record: Mapping[str, Any]) -> dict[str, str]:
    """Parameters as a job file writes them, six digits for numbers."""
    found = record.get("parameters")
    if not isinstance(found, Mapping):
        return {}
    return {encodable(str(key)): f"{value:.6g}" if isinstance(value, float) else encodable(str(value)) for key, value in found.items()}


def _told_trial(record: Mapping[str, Any]) -> TrialReport:
    return TrialReport(
        number=whole(record, "number") or 0,
        parameters=parameters_of(record),
        state=text(record, "state"),
        epochs=whole(record, "epochs") or 0,
        value=number(record, "value"),
        seconds=number(record, "seconds"),
        error=text(record, "error"),
    )


def _running_trials(events: Sequence[Event]) -> list[TrialReport]:
    begun = {whole(event, "number") or 0: event for event in events if event["event"] == "TrialStarted"}
    told = {whole(event, "number") or 0: event for event in events if event["event"] == "TrialReported"}
    return [
        TrialReport(
            number=place,
            parameters=parameters_of(event),
            state="running",
            epochs=whole(told.get(place, {}), "epoch") or 0,
            value=number(told.get(place, {}), "value"),
            seconds=None,
            error="",
        )
        for place, event in sorted(begun.items())
    ]
