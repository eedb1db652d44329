"""What a worker knows to be wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.stages.stopping import NOTICES, Notice, WorkerControl
from orchestrator.training.work import Wish


def control(place: Path, rank: int, events: list[dict[str, Any]]) -> WorkerControl:
    return WorkerControl(place / "stop", place / "regroup", rank, lambda event, **fields: events.append({"event": event, **fields}))


def test_the_strongest_wish_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file to regroup gives way to a notice, and that to the user's stop; without any of them training goes on."""
    events: list[dict[str, Any]] = []
    first = control(tmp_path, 0, events)
    assert first.wish() is Wish.GO_ON
    (tmp_path / "regroup").touch()
    assert first.wish() is Wish.REGROUP
    monkeypatch.setattr(NOTICES, "heard", Notice("drain", 1790000000.0))
    assert first.wish() is Wish.LEAVE
    (tmp_path / "stop").touch()
    assert first.wish() is Wish.STOP
    assert [(event["event"], event["rank"], event["by"], event["deadline"]) for event in events] == [
        ("GroupPreempted", 0, "drain", 1790000000.0)
    ]


def test_files_are_looked_for_by_one_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others say only what they alone know: that their process or machine has to go."""
    events: list[dict[str, Any]] = []
    second = control(tmp_path, 1, events)
    for name in ("regroup", "stop"):
        (tmp_path / name).touch()
    assert second.wish() is Wish.GO_ON
    monkeypatch.setattr(NOTICES, "heard", Notice("SIGTERM", 0.0))
    assert second.wish() is Wish.LEAVE
    assert (events[0]["rank"], events[0]["deadline"]) == (1, None)
