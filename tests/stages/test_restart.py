"""When Ray Train may start a group again itself, and what one start hands on to the next."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import ray
from ray.util.placement_group import PlacementGroup, placement_group, placement_group_table, remove_placement_group

from orchestrator.errors import TrainingError
from orchestrator.plan.values import ClusterShape, TrainPlan
from orchestrator.record.journal import Journal
from orchestrator.stages.cluster import free_what_is_left
from orchestrator.stages.engine import GroupWork
from orchestrator.stages.group import Budget
from orchestrator.stages.heartbeat import Seat, beating, read_heartbeats, stacks_file
from orchestrator.stages.ingest import NO_ROWS
from orchestrator.stages.restart import Restarts
from orchestrator.training.batch import Batch, Phase


def read(restarts: Restarts, rank: int, node: str) -> None:
    """What a worker does that takes its first batch."""
    batches = restarts.noting(iter([Batch(rank, Phase.TRAIN, 0, 0, *NO_ROWS)]), rank, node)
    assert next(batches).index == rank


@pytest.fixture
def here(ray_cluster: None) -> str:
    return str(ray.get_runtime_context().get_node_id())


def test_a_group_that_reads_here_is_started_again_as_often_as_may_be(tmp_path: Path, here: str) -> None:
    """Both workers must have begun to read after every start; the third start is one too many where two may be lost."""
    restarts = Restarts(tmp_path)
    for started in range(2):
        read(restarts, 0, here)
        assert not restarts.possible(workers=2, spare=2)
        read(restarts, 1, here)
        assert restarts.possible(workers=2, spare=2)
        restarts.add()
        assert restarts.count == started + 1
    for rank in (0, 1):
        read(restarts, rank, here)
    assert not restarts.possible(workers=2, spare=2)


def test_the_driver_starts_a_group_again_that_was_elsewhere_or_hung(tmp_path: Path, here: str) -> None:
    """A worker on another node, or stacks that the driver has saved; an empty file of stacks means nothing."""
    elsewhere, hung = Restarts(tmp_path / "elsewhere"), Restarts(tmp_path / "hung")
    for restarts, node in ((elsewhere, "another node"), (hung, here)):
        restarts.folder.mkdir()
        read(restarts, 0, here)
        read(restarts, 1, node)
        stacks_file(restarts.folder, 1).touch()
    assert not elsewhere.possible(workers=2, spare=9)
    assert hung.possible(workers=2, spare=9)
    stacks_file(hung.folder, 1).write_text("Thread 0x1")
    assert not hung.possible(workers=2, spare=9)


def test_workers_that_are_gone_are_not_taken_for_those_that_come(tmp_path: Path) -> None:
    """After a restart nobody gives signs of life, not even a worker that lives on for a while, and the watchdog has nobody to miss."""
    restarts = Restarts(tmp_path)
    with beating(tmp_path, Seat(0, "node"), hang_s=1):
        before = heart_of(tmp_path)
        wait_until(lambda: heart_of(tmp_path) > before)
        restarts.add()
        assert read_heartbeats(tmp_path) == []
        with pytest.raises(TimeoutError):
            wait_until(lambda: bool(read_heartbeats(tmp_path)), seconds=0.5)


def heart_of(folder: Path) -> int:
    (beat,) = read_heartbeats(folder)
    return beat.beats


def wait_until(reached: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.01)


def test_losses_are_counted_whoever_starts_the_group_again(tmp_path: Path) -> None:
    """Four attempts: one that nobody got far in, one that was followed by two more without the driver, and no fifth."""
    plan, shape = TrainPlan(2, 4, 16, 10, 1, 0, "cpu", 1.0, 1), ClusterShape(cpus=2, gpus=0)
    work = GroupWork("train", plan, shape, lambda *_: None, None, lambda _: pytest.fail("nothing is read"), tmp_path, saves_on_stop=True)
    budget, journal = Budget(work, attempts=4), Journal(tmp_path / "events", "train-driver", "train")
    budget.begin(work, journal)
    budget.spend_on_loss("lost at the start", OSError(), preempted=False)
    fit = budget.begin(work, journal)
    assert (fit.attempt, fit.spare) == (2, 2)
    for _ in range(fit.spare):
        fit.restarts.add()
    assert (budget.attempt, budget.spare) == (4, 0)
    with pytest.raises(TrainingError, match="the worker group was lost 4 times; last: lost again"):
        budget.spend_on_loss("lost again", OSError(), preempted=False)


def test_machines_that_are_taken_away_have_a_budget_of_their_own(tmp_path: Path) -> None:
    """Hardly ever the last straw, but no group starts for ever: a hundred, of which none counts as a loss."""
    plan, shape = TrainPlan(2, 4, 16, 10, 1, 0, "cpu", 1.0, 1), ClusterShape(cpus=2, gpus=0)
    work = GroupWork("train", plan, shape, lambda *_: None, None, lambda _: pytest.fail("nothing is read"), tmp_path, saves_on_stop=True)
    budget, journal = Budget(work, attempts=4), Journal(tmp_path / "events", "train-driver", "train")
    for number in range(1, 100):
        fit = budget.begin(work, journal)
        assert (fit.attempt, fit.spare) == (number, 3)
        if number % 2:
            budget.spend_on_preemption()
        else:
            budget.spend_on_loss("its node is gone", OSError(), preempted=True)
    with pytest.raises(TrainingError, match="machines were taken away from the worker group 100 times"):
        budget.spend_on_preemption()


@ray.remote(num_cpus=0)
class Maker:
    """Makes a placement group, as what leads workers does."""

    def make(self) -> str:
        group = placement_group([{"CPU": 0.01}])
        ray.get(group.ready())
        return str(group.id.hex())


def test_only_what_a_lost_actor_reserved_is_given_back(ray_cluster: None) -> None:
    """The placement group of an actor that is gone is removed; those of one that lives, and of the driver, stay."""
    lives, lost = Maker.remote(), Maker.remote()
    kept, gone = ray.get([lives.make.remote(), lost.make.remote()])
    own = placement_group([{"CPU": 0.01}])
    ray.get(own.ready())
    ray.kill(lost)

    def states() -> list[str]:
        return [placement_group_table()[group]["state"] for group in (gone, kept, own.id.hex())]

    def given_back() -> bool:
        free_what_is_left()
        return states()[0] == "REMOVED"

    wait_until(given_back)
    assert states() == ["REMOVED", "CREATED", "CREATED"]
    remove_placement_group(own)
    remove_placement_group(PlacementGroup(ray.PlacementGroupID.from_hex(kept)))
