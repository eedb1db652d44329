"""What Ray Train keeps of a start in the run folder, met by the next start."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from workshop import Workshop

from orchestrator.record.journal import read_events

SNAPSHOT = "checkpoint_manager_snapshot.json"
HALF = '{"ray_version": "2.60.0", "checkpoint_results": [{"checkpoint_dir_name": "checkpoint_000001", "metr'


@pytest.mark.usefixtures("ray_cluster")
def test_damaged_records_of_ray_keep_no_run_from_starting(make_workshop: Callable[..., Workshop]) -> None:
    """Killed when all was done but not yet said so, with half a snapshot for training and garbage for evaluation: the next start has
    nothing to train, evaluates, and is done.
    """
    workshop = make_workshop()
    folder = workshop.run(in_process=True).folder
    for stage, content in {"train": HALF.encode(), "evaluate": b"\x00garbage"}.items():
        journal = folder.events / f"{stage}-driver.jsonl"
        journal.write_text("".join(line for line in journal.read_text().splitlines(keepends=True) if "StageFinished" not in line))
        (folder.attempts / f"{stage}-1").mkdir(parents=True)
        (folder.attempts / f"{stage}-1" / SNAPSHOT).write_bytes(content)
    weights = folder.weights.read_bytes()
    assert workshop.run(in_process=False).report.status == "done"
    events = read_events(folder.events)
    assert not [event for event in events if event["event"] == "AttemptFailed"]
    assert sum(event["event"] == "EpochFinished" for event in events) == 2
    assert folder.weights.read_bytes() == weights
