"""The plan: arithmetic with reasons, and refusals before anything starts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.errors import PlanError
from orchestrator.plan.make import DataFacts, make_plan, shard_rows, share_cpus, with_workers
from orchestrator.plan.values import ClusterShape, Plan
from orchestrator.spec.job import DataSpec, ImageSpec, JobSpec, TrainSpec

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
