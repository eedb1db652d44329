"""Groups and the cluster they are on: nodes that are waited for, and nodes that came."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.errors import ClusterError, Interrupted
from orchestrator.plan.values import ClusterShape, TrainPlan
from orchestrator.record.journal import Journal, read_events
from orchestrator.stages.engine import Elastic, GroupWork
from orchestrator.stages.placing import place, watching_growth
from orchestrator.stages.stopping import StopRequest


def make_work(folder: Path, choices: tuple[int, ...], device: str, wait_s: float = 0.0) -> GroupWork:
    """A group that is never started."""
    return GroupWork(
        name="train",
        plan=TrainPlan(choices[0], 4, 16, 10, 1, 0, device, 1.0, 1, choices),
        cluster=ClusterShape(cpus=2, gpus=0),
        run_one_worker=lambda *_: None,
        settings=None,
        make_feed=lambda _: pytest.fail("nothing is read"),
        storage=folder,
        saves_on_stop=True,
        elastic=Elastic(folder / "regroup", 0.0, wait_s),
    )


def test_what_is_missing_is_named_when_no_node_came(ray_cluster: None, tmp_path: Path) -> None:
    """Two GPUs at least, on a cluster without any: told once, waited for, and then an error with what there is and what is needed."""
    journal, stop = Journal(tmp_path / "events", "train-driver", "train"), StopRequest(tmp_path / "stop")
    with pytest.raises(ClusterError, match=r"no nodes came in 1\.5 s: 2 CPUs and 0 GPUs .* 2 GPUs are needed") as raised:
        place(make_work(tmp_path, (2, 4), "cuda", wait_s=1.5), journal, stop)
    assert "run the same command again" in raised.value.next_step
    (told,) = read_events(tmp_path / "events")
    assert (told["event"], told["wait_s"]) == ("NodesRanShort", 1.5)


def test_waiting_for_nodes_can_be_stopped(ray_cluster: None, tmp_path: Path) -> None:
    """The user's stop ends the waiting as it ends training."""
    stop = StopRequest(tmp_path / "stop")
    stop.ask()
    with pytest.raises(Interrupted):
        place(make_work(tmp_path, (2, 4), "cuda", wait_s=600.0), Journal(tmp_path / "events", "train-driver", "train"), stop)


def test_a_group_is_placed_as_the_cluster_is_now(ray_cluster: None, tmp_path: Path) -> None:
    """One node of two CPUs takes one worker of a range, with the CPU that Ray Data leaves."""
    placed = place(
        make_work(tmp_path, (1, 2, 4), "cpu"), Journal(tmp_path / "events", "train-driver", "train"), StopRequest(tmp_path / "stop")
    )
    assert (placed.plan.workers, placed.plan.worker_cpus, placed.cluster) == (1, 1.0, ClusterShape(cpus=2, gpus=0))


def test_growth_is_asked_for_until_the_group_has_ended(ray_cluster: None, tmp_path: Path) -> None:
    """What an earlier start asked is forgotten; a group of one that may have two is asked to end; afterwards nothing is left to be seen."""
    request = tmp_path / "regroup"
    request.touch()
    work = make_work(tmp_path, (2, 4), "cpu")
    with watching_growth(replace(work, plan=replace(work.plan, workers=1))) as look:
        assert not request.exists()
        deadline = time.monotonic() + 20
        while not request.exists():
            assert time.monotonic() < deadline
            look()
    assert not request.exists()
