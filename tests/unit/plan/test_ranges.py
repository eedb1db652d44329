"""Ranges of workers: which numbers can share the steps, and which of them a cluster takes."""

from __future__ import annotations

import math
from typing import Any

import pytest

from orchestrator.errors import ClusterError, PlanError
from orchestrator.plan.batch import micro_batch_choices
from orchestrator.plan.make import DataFacts, make_plan, refit, with_workers
from orchestrator.plan.tune import trial_workers, with_trial_workers
from orchestrator.plan.values import ClusterShape, Plan
from orchestrator.plan.workers import SHARED_ROWS_MIN, fitting_workers, usable_workers
from orchestrator.spec.job import DataSpec, JobSpec
from orchestrator.spec.train import TrainSpec

JOB = JobSpec(name="shapes", data=DataSpec(source="/images"))


def nodes(count: int, cpus: int = 4) -> ClusterShape:
    return ClusterShape(cpus=cpus * count, gpus=0, nodes=count, smallest_node_cpus=cpus if count > 1 else 0)


def gpus(count: int) -> ClusterShape:
    return ClusterShape(cpus=4 * count + 4, gpus=count)


def plan(shape: ClusterShape, **train: Any) -> Plan:
    job = JOB.model_copy(update={"train": TrainSpec(**train)})
    return make_plan(job, DataFacts("0" * 16, ("a", "b"), {"train": 1000, "validation": 100, "test": 100}), shape, "job.yaml")


def line(found: Plan, what: str) -> tuple[str, str]:
    return next((decision.value, decision.reason) for decision in found.decisions if decision.what == what)


@pytest.mark.parametrize(
    ("limits", "batch", "numbers"),
    [
        ((1, 4), 256, (1, 2, 4)),
        ((1, 4), 192, (1, 2, 3, 4)),
        ((1, 4), 96, (1, 2, 4)),  # 3 as well would make micro-batches of 8
        ((2, 8), 240, (2, 4, 8)),
        ((3, 4), 256, (4,)),
        ((1, 64), 64, (1, 2, 4, 8, 16, 32, 64)),
        ((5, 5), 250, (5,)),
    ],
)
def test_the_numbers_that_can_share_a_step(limits: tuple[int, int], batch: int, numbers: tuple[int, ...]) -> None:
    """As many of the range, from the largest down, as divide the same micro-batches without making them too small."""
    assert usable_workers(TrainSpec(workers=limits), batch) == numbers


@pytest.mark.parametrize("batch", [*range(1, 65), 96, 100, 128, 192, 240, 255, 256, 1000])
@pytest.mark.parametrize("limits", [(1, 1), (1, 2), (1, 4), (2, 3), (1, 8), (3, 12)])
def test_every_usable_number_takes_whole_micro_batches(limits: tuple[int, int], batch: int) -> None:
    """Whatever the cluster, the micro-batches of a step are the same, each number of workers divides them, and they make up the step."""
    if batch % math.lcm(*usable_workers(TrainSpec(workers=limits), batch)):
        with pytest.raises(PlanError, match="does not divide among"):
            plan(gpus(limits[1]), workers=limits, batch=batch)
        return
    plans = [plan(shape, workers=limits, batch=batch).train for shape in (gpus(limits[1]), nodes(1), nodes(3))]

    assert len({(found.micro_batches, found.micro_batch_rows, found.choices) for found in plans}) == 1
    for found in plans:
        assert found.micro_batches * found.micro_batch_rows == batch
        assert found.workers in found.choices
        assert all(limits[0] <= number <= limits[1] and found.micro_batches % number == 0 for number in found.choices)
        assert found.micro_batch_rows >= min(SHARED_ROWS_MIN, batch // found.choices[-1])


def test_the_cluster_decides_which_number_it_is() -> None:
    """One for each GPU, or for each node; nodes take the least number also when there are fewer of them, GPUs do not."""
    assert [fitting_workers((2, 4, 8), gpus(count)) for count in (1, 2, 3, 4, 7, 8, 100)] == [0, 2, 2, 4, 4, 8, 8]
    assert [fitting_workers((2, 4, 8), nodes(count)) for count in (1, 2, 3, 4, 7, 8, 100)] == [2, 2, 2, 4, 4, 8, 8]
    assert fitting_workers((1, 2), ClusterShape(cpus=4, gpus=0), gpus=True) == 0


def test_the_plan_says_what_may_come() -> None:
    """How many now and at most, which numbers, why not the others, and why micro-batches are what they are."""
    found = plan(nodes(2), workers=(1, 4))
    why = "train.workers: 1, 2 or 4, one for each node as nodes come and go; 3 could not share the same micro-batches"
    assert line(found, "workers") == ("2, up to 4", why)
    assert line(found, "micro-batch") == ("64 images, 2 for each worker in a step", "the same for 1, 2 or 4 workers")
    assert line(plan(gpus(4), workers=(1, 4)), "workers")[0] == "4"


def test_memory_chooses_among_sizes_that_all_numbers_can_take() -> None:
    """With `micro_batch: auto` the sizes that are tried divide the step for each number of the range; a given size limits the range."""
    found = plan(gpus(1), workers=(1, 4), batch=256, micro_batch="auto")
    assert micro_batch_choices(TrainSpec(), found.train) == (1, 2, 4, 8, 16, 32, 64)
    assert line(found, "micro-batch")[0] == "at most 64"
    assert plan(gpus(1), workers=(1, 4), batch=96, micro_batch=8).train.choices == (1, 2, 3, 4)
    assert plan(gpus(1), workers=(1, 4), batch=96, micro_batch=24).train.choices == (1, 2, 4)
    with pytest.raises(PlanError, match=r"train.micro_batch=32 would work"):
        plan(gpus(4), workers=(2, 4), batch=128, micro_batch=128)


def test_a_changed_cluster_changes_the_workers_and_nothing_of_the_steps() -> None:
    """Up and down inside the range, from what is there; below the least number the error says what is missing."""
    start = plan(gpus(2), workers=(2, 8)).train
    for count, workers in ((8, 8), (5, 4), (2, 2)):
        found = refit(start, gpus(count))
        assert (found.workers, found.micro_batches, found.micro_batch_rows) == (workers, start.micro_batches, start.micro_batch_rows)
    with pytest.raises(ClusterError, match="1 GPU are left of the cluster, too little to go on; 2 GPUs are needed"):
        refit(start, gpus(1))
    with pytest.raises(ClusterError, match="0 CPUs and 0 GPUs are left of the cluster, too little to go on; a node of 2 CPUs is needed"):
        refit(plan(nodes(2), workers=(1, 2)).train, ClusterShape(cpus=0, gpus=0))


def test_a_number_that_is_asked_for_stays() -> None:
    """`evaluate --workers 3` is three, on a job with a range too."""
    found = with_workers(plan(nodes(1), workers=(1, 2)), 3).train
    assert (found.workers, refit(found, nodes(4)).workers) == (3, 3)


def test_trials_take_the_least_number_and_the_micro_batches_of_the_job() -> None:
    """So that batch statistics in a trial are those of the job that is trained in the end."""
    spec = TrainSpec(workers=(1, 4), batch=256)
    trial = with_trial_workers(spec, 256, trial_workers(spec, 256))
    assert (trial.workers, trial.micro_batch) == (1, plan(gpus(4), workers=(1, 4)).train.micro_batch_rows)
    fixed = TrainSpec(workers=2, batch=256)
    assert with_trial_workers(fixed, 256, trial_workers(fixed, 256)) == fixed
    assert trial_workers(TrainSpec(), 256) == 1
