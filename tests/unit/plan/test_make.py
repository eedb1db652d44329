"""The plan: arithmetic with reasons, and refusals before anything starts."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from orchestrator.errors import ClusterError, PlanError
from orchestrator.plan.make import DataFacts, make_plan, refit, shard_rows, share_cpus, with_workers
from orchestrator.plan.values import ClusterShape, Plan
from orchestrator.spec.job import DataSpec, ImageSpec, JobSpec
from orchestrator.spec.train import TrainSpec

LAPTOP = ClusterShape(cpus=2, gpus=0)


def plan(train: dict[str, Any] | None = None, images: dict[str, int] | None = None, shape: ClusterShape = LAPTOP) -> Plan:
    job = JobSpec(name="shapes", data=DataSpec(source="/images"), train=TrainSpec(**(train or {})))
    facts = DataFacts("0" * 16, ("a", "b"), images or {"train": 1000, "validation": 100, "test": 100})
    return make_plan(job, facts, shape, "job.yaml")


def test_a_global_step_is_one_micro_batch_for_each_worker() -> None:
    """256 images on two workers are two micro-batches of 128, and the rest of an epoch is counted as dropped."""
    train = plan({"batch": 256, "workers": 2}).train
    assert (train.micro_batches, train.micro_batch_rows, train.steps_per_epoch, train.dropped_rows) == (2, 128, 3, 232)


def test_reading_keeps_a_cpu_for_itself() -> None:
    """Whatever the number of workers, at least one whole CPU is left for Ray Data."""
    for cpus in (2, 3, 4, 8, 64):
        for workers in (1, 2, 3, 4, 8):
            per_worker, data = share_cpus(ClusterShape(cpus=cpus, gpus=0), workers)
            assert data >= 1
            assert per_worker > 0
            assert per_worker * workers + data == pytest.approx(cpus)


def test_auto_workers_follow_the_gpus() -> None:
    """`workers: auto` takes one worker for each GPU, and the device is cuda."""
    train = plan(shape=ClusterShape(cpus=16, gpus=4)).train
    assert (train.workers, train.device) == (4, "cuda")


def test_all_problems_are_named_at_once() -> None:
    """A batch that neither fits nor divides is two problems, each with a value that would work."""
    with pytest.raises(PlanError) as raised:
        plan({"batch": 301, "workers": 2}, {"train": 200, "test": 10})
    assert [problem.where for problem in raised.value.problems] == ["job.yaml", "job.yaml"]
    assert "train.batch=128" in raised.value.problems[0].what
    assert "train.batch=300" in raised.value.problems[1].what


def test_more_workers_than_gpus_are_refused() -> None:
    """Three workers on two GPUs would wait forever for the third."""
    with pytest.raises(PlanError, match=r"train\.workers=2 would work"):
        plan({"workers": 3, "batch": 300}, shape=ClusterShape(cpus=8, gpus=2))


def test_one_cpu_is_refused() -> None:
    """With a single logical CPU the workers would starve Ray Data."""
    with pytest.raises(PlanError, match="1 CPU"):
        plan({"workers": 1}, shape=ClusterShape(cpus=1, gpus=0))


def test_shards_do_not_depend_on_the_cluster() -> None:
    """Rows in a shard follow from the image alone, within bounds, or from the job file."""
    assert shard_rows(ImageSpec(size=28, channels=1), "auto") == 4096
    assert shard_rows(ImageSpec(size=224), "auto") == 445
    assert shard_rows(ImageSpec(size=1024), "auto") == 256
    assert shard_rows(ImageSpec(size=224), 100) == 100


def test_another_number_of_workers_changes_nothing_but_the_group() -> None:
    """`with_workers` keeps everything that decides a result."""
    first = plan({"workers": 2})
    second = with_workers(first, 4)
    assert second.train.workers == 4
    assert second.evaluate == first.evaluate
    assert second.train.micro_batch_rows == first.train.micro_batch_rows


def test_a_plan_is_plain_data_with_reasons() -> None:
    """plan.json holds every decision with its reason."""
    value = json.loads(json.dumps(plan().to_json()))
    assert value["train"]["epochs"] == 10
    assert all(decision["reason"] for decision in value["decisions"])


@pytest.mark.parametrize("cpus", [2, 3, 4, 16])
@pytest.mark.parametrize("nodes", [2, 3, 8])
@pytest.mark.parametrize("workers", [1, 2, 3, 8, 24])
def test_on_several_nodes_every_worker_fits_beside_ray_data(cpus: int, nodes: int, workers: int) -> None:
    """However evenly spread workers fall on nodes, each node keeps a whole CPU for Ray Data."""
    shape = ClusterShape(cpus=cpus * nodes, gpus=0, nodes=nodes, smallest_node_cpus=cpus)
    per_worker, _ = share_cpus(shape, workers)

    assert per_worker > 0
    assert cpus - per_worker * math.ceil(workers / nodes) >= 1


def test_without_gpus_a_cluster_gets_a_worker_for_each_node() -> None:
    """As many as divide the batch."""
    shape = ClusterShape(cpus=12, gpus=0, nodes=3, smallest_node_cpus=4)

    assert plan({"batch": 96}, shape=shape).train.workers == 3
    assert plan({"batch": 64}, shape=shape).train.workers == 2


def test_nodes_of_one_cpu_are_refused() -> None:
    """Reading and training would wait for each other."""
    with pytest.raises(PlanError, match="the smallest node has 1 CPU"):
        plan({}, shape=ClusterShape(cpus=2, gpus=0, nodes=2, smallest_node_cpus=1))


def test_what_is_left_of_a_cluster_trains_the_same_steps() -> None:
    """After a loss the workers share the nodes that are left; with fewer GPUs there are fewer workers, which still divide the step."""
    on_cpus = plan({"workers": 2}, shape=ClusterShape(cpus=4, gpus=0, nodes=2, smallest_node_cpus=2)).train
    left = refit(on_cpus, ClusterShape(cpus=2, gpus=0))
    on_gpus = plan({"workers": 8}, shape=ClusterShape(cpus=32, gpus=8, nodes=2, smallest_node_cpus=16)).train

    assert (on_cpus.worker_cpus, left.workers, left.worker_cpus) == (1.0, 2, 0.5)
    assert left.micro_batches == on_cpus.micro_batches
    assert refit(on_gpus, ClusterShape(cpus=16, gpus=7)).workers == 4
    with pytest.raises(ClusterError, match="16 CPUs and 0 GPUs are left of the cluster, too little to go on; 1 GPU is needed"):
        refit(on_gpus, ClusterShape(cpus=16, gpus=0))
