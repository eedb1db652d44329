"""A worker group that is led by this process, and given up by it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray

from orchestrator.errors import Interrupted
from orchestrator.plan.values import ClusterShape, TrainPlan
from orchestrator.record.journal import Journal
from orchestrator.stages.engine import GroupWork
from orchestrator.stages.group import run_group
from orchestrator.stages.stopping import StopRequest
from orchestrator.training.batch import Batch
from orchestrator.training.pulse import Pulse


def never_ends(place: Path, _: Iterator[Batch], pulse: Pulse) -> None:
    """Says which process it is, and works on."""
    (place / f"{os.getpid()}.pid").touch()
    while True:
        pulse.note("computing")
        time.sleep(0.01)


def wait_until(reached: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, "the deadline passed"
        time.sleep(0.02)


def free_cpus() -> float:
    return float(ray.available_resources().get("CPU", 0.0))


def test_a_group_that_is_stopped_ends_with_its_workers(ray_cluster: None, tmp_path: Path) -> None:
    """Ctrl-C where nothing is saved, as in an evaluation: the workers are gone, their CPUs are free, and no thread asks Ray for more."""
    plan = TrainPlan(2, 4, 16, 10, 1, 0, "cpu", 0.5, 1)
    stop, before = StopRequest(tmp_path / "stop"), free_cpus()
    work = GroupWork(
        name="evaluate",
        plan=plan,
        cluster=ClusterShape(cpus=2, gpus=0),
        run_one_worker=never_ends,
        settings=tmp_path,
        make_feed=lambda _: None,  # type: ignore[arg-type, return-value]  # nothing is read
        storage=tmp_path / "ray",
        saves_on_stop=False,
        repeats=True,
    )
    asking = threading.Thread(target=lambda: (wait_until(lambda: len([*tmp_path.glob("*.pid")]) == 2), stop.ask()))
    asking.start()
    with pytest.raises(Interrupted, match="stopped in evaluate; the same command does it again"):
        run_group(work, Journal(tmp_path / "events", "evaluate", "evaluate"), stop, 4)
    asking.join()
    assert [thread.name for thread in threading.enumerate() if thread.name == "evaluate"] == []
    wait_until(lambda: not any(Path(f"/proc/{path.stem}").exists() for path in tmp_path.glob("*.pid")))
    wait_until(lambda: free_cpus() == before)
