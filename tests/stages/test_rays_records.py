"""What Ray Train keeps of a start in the run folder."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from workshop import Workshop

SNAPSHOT = "checkpoint_manager_snapshot.json"
HALF = '{"ray_version": "2.60.0", "checkpoint_results": [{"checkpoint_dir_name": "checkpoint_2026-11-26", "metr'


@pytest.mark.usefixtures("ray_cluster")
def test_damaged_records_of_ray_keep_no_run_from_starting(make_workshop: Callable[..., Workshop]) -> None:
    """Half a snapshot where training starts and garbage where evaluation does: the run trains and evaluates."""
    workshop = make_workshop()
    folder = workshop.run(in_process=True, until="prepare").folder
    for name, content in {"train-1": HALF.encode(), "evaluate-1": b"\x00garbage"}.items():
        (folder.attempts / name).mkdir(parents=True)
        (folder.attempts / name / SNAPSHOT).write_bytes(content)
    assert workshop.run(in_process=False).report.status == "done"
    assert not list(folder.attempts.rglob(SNAPSHOT))
