"""Events folded into the course of a run: its status, its starts and its stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.record.journal import Event
from orchestrator.reports.fields import number, text
from orchestrator.reports.values import Failure, RunStatus, StageReport, StageState

TUNE = "tune"
STAGES = ("prepare", "train", "evaluate", TUNE)
STARTS = ("RunStarted", "RunContinued")
ENDS: dict[str, RunStatus] = {"RunFinished": "done", "RunFailed": "failed", "RunInterrupted": "interrupted"}
CUT_OFF: dict[str, StageState] = {"RunFailed": "failed", "RunInterrupted": "interrupted"}


def fold_status(events: Sequence[Event]) -> RunStatus:
    """How the last start ended; `running` while that is not written down."""
    marks = [event["event"] for event in events if event["event"] in STARTS or event["event"] in ENDS]
    return ENDS.get(marks[-1], "running") if marks else "running"


def fold_failure(events: Sequence[Event]) -> Failure | None:
    """The error of a run whose last start failed."""
    if fold_status(events) != "failed":
        return None
    last = [event for event in events if event["event"] == "RunFailed"][-1]
    return Failure(text(last, "error") or "not recorded", text(last, "next_step"))


def work_seconds(events: Sequence[Event]) -> float:
    """Time at work: from each start to its end, or to the last sign of life where a start has no end."""
    total, began, last = 0.0, None, None
    for event in events:
        now = float(event["time"])
        if event["event"] in STARTS:
            total += 0.0 if began is None or last is None else last - began
            began = now
        if event["event"] in ENDS and began is not None:
            total, began = total + (number(event, "seconds") or now - began), None
        last = now
    return total if began is None or last is None else total + last - began


def fold_stages(events: Sequence[Event]) -> tuple[StageReport, ...]:
    """Every run has the first three; tune only those that tuned."""
    names = STAGES if any(event.get("stage") == TUNE for event in events) else STAGES[:-1]
    return tuple(_fold_stage(name, events) for name in names)


@dataclass
class _Course:
    """How a stage stands while the events of a run pass by."""

    state: StageState = "waiting"
    seconds: float = 0.0
    reason: str = ""
    began: float | None = None

    def start(self, now: float) -> None:
        self.state, self.reason, self.began = "running", "", now

    def end(self, state: StageState, now: float, seconds: float | None = None) -> None:
        measured = 0.0 if self.began is None else now - self.began
        self.state, self.seconds, self.began = state, self.seconds + (measured if seconds is None else seconds), None

    def skip(self, reason: str) -> None:
        """A stage that an earlier start finished stays done."""
        if self.state != "done":
            self.state, self.reason, self.began = "skipped", reason, None


def _fold_stage(name: str, events: Sequence[Event]) -> StageReport:
    course, last = _Course(), 0.0
    for event in events:
        kind, now = event["event"], float(event["time"])
        if kind in STARTS and course.began is not None:
            course.end("interrupted", last)
        elif kind in CUT_OFF and course.began is not None:
            course.end(CUT_OFF[kind], now)
        elif event.get("stage") == name:
            _pass_stage_event(course, event)
        last = now
    if course.began is not None:
        course.end("running", last)
    return StageReport(name, course.state, course.seconds, course.reason)


def _pass_stage_event(course: _Course, event: Event) -> None:
    now = float(event["time"])
    if event["event"] == "StageStarted":
        course.start(now)
    elif event["event"] == "StageFinished":
        course.end("done", now, number(event, "seconds"))
    elif event["event"] == "StageSkipped":
        course.skip(text(event, "reason"))
