"""The course of a run from the times of its events."""

from __future__ import annotations

from typing import Any

from orchestrator.reports.timeline import fold_stages, fold_status, work_seconds


def events(*marks: tuple[float, str, str]) -> list[dict[str, Any]]:
    return [{"time": time, "stage": stage, "event": event} for time, stage, event in marks]


KILLED_AND_CONTINUED = events(
    (100.0, "run", "RunStarted"),
    (101.0, "train", "StageStarted"),
    (111.0, "train", "Progress"),
    (900.0, "run", "RunContinued"),
    (901.0, "train", "StageStarted"),
    (906.0, "train", "StageFinished"),
    (907.0, "run", "RunFinished"),
    (5000.0, "evaluate", "StageStarted"),
    (5002.0, "evaluate", "StageFinished"),
)


def test_time_between_starts_is_not_work() -> None:
    """A killed start counts to its last sign of life, and what comes after the end does not count."""
    assert work_seconds(KILLED_AND_CONTINUED) == 11.0 + 7.0


def test_a_stage_lasts_as_long_as_it_ran_in_all_starts() -> None:
    """The ten seconds of the killed start are added to the five of the second."""
    _, train, evaluate = fold_stages(KILLED_AND_CONTINUED)
    assert (train.state, train.seconds) == ("done", 15.0)
    assert (evaluate.state, evaluate.seconds) == ("done", 2.0)


def test_a_stage_that_a_killed_start_left_is_interrupted_until_it_begins_again() -> None:
    """Continuing the run does not make an old stage run."""
    train = fold_stages(KILLED_AND_CONTINUED[:4])[1]
    assert (train.state, train.seconds) == ("interrupted", 10.0)


def test_a_stage_that_was_never_done_is_skipped_with_its_reason() -> None:
    """The reason travels with the state."""
    skipped = [{"time": 1.0, "stage": "evaluate", "event": "StageSkipped", "reason": "no test images"}]
    evaluate = fold_stages(skipped)[2]
    assert (evaluate.state, evaluate.reason) == ("skipped", "no test images")


def test_the_last_mark_of_the_run_is_its_status() -> None:
    """Neither events of stages nor earlier ends count."""
    assert fold_status(KILLED_AND_CONTINUED) == "done"
    assert fold_status(KILLED_AND_CONTINUED[:5]) == "running"
    assert fold_status(events((1.0, "run", "RunFailed"), (2.0, "train", "Progress"))) == "failed"
    assert fold_status([]) == "running"
