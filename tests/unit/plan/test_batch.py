"""Batches, their parts, and what the learning rate means."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.errors import PlanError
from orchestrator.plan.batch import micro_batch_choices, with_micro_batch
from orchestrator.plan.make import DataFacts, make_plan
from orchestrator.plan.values import ClusterShape, Plan
from orchestrator.spec.job import DataSpec, JobSpec
from orchestrator.spec.train import TrainSpec

JOB = JobSpec(name="shapes", data=DataSpec(source="/images"))


def plan(train: dict[str, Any], images: int = 1000, gpus: int = 0) -> Plan:
    job = JobSpec(name="shapes", data=DataSpec(source="/images"), train=TrainSpec(**train))
    facts = DataFacts("0" * 16, ("cat", "dog"), {"train": images, "validation": 100, "test": 100})
    return make_plan(job, facts, ClusterShape(cpus=4 + 4 * gpus, gpus=gpus), "job.yaml")


def line(found: Plan, what: str) -> tuple[str, str]:
    return next((decision.value, decision.reason) for decision in found.decisions if decision.what == what)


def problem(train: dict[str, Any], gpus: int = 0) -> str:
    with pytest.raises(PlanError) as raised:
        plan(train, gpus=gpus)
    (found,) = raised.value.problems
    return found.what


def test_micro_batches_divide_each_workers_part() -> None:
    """256 images on two workers in micro-batches of 32 are four for each; the step and the epoch stay what they are."""
    whole, parts = plan({"batch": 256, "workers": 2}), plan({"batch": 256, "workers": 2, "micro_batch": 32})
    assert (parts.train.micro_batches, parts.train.micro_batch_rows) == (8, 32)
    assert (parts.train.steps_per_epoch, parts.train.dropped_rows) == (whole.train.steps_per_epoch, whole.train.dropped_rows)
    assert line(parts, "micro-batch") == ("32 images, 4 for each worker in a step", "train.micro_batch")
    assert line(parts, "step") == line(whole, "step") == ("256 images = 2 x 128", "train.batch, in equal parts")


def test_what_fits_the_memory_replaces_the_guess() -> None:
    """Before the probe the plan says so; after it, it holds the size and the reason, and the same images a step."""
    before = plan({"batch": 96, "workers": 2, "micro_batch": "auto"})
    assert line(before, "micro-batch")[0] == "at most 48"
    assert micro_batch_choices(TrainSpec(), before.train) == (1, 2, 3, 4, 6, 8, 12, 16, 24, 48)
    assert micro_batch_choices(TrainSpec(cutmix=1.0), before.train)[0] == 2  # one image alone would be mixed with itself
    after = with_micro_batch(JOB, before, 16, "it fits")
    assert (after.train.micro_batches, after.train.micro_batch_rows) == (6, 16)
    assert line(after, "micro-batch") == ("16 images, 3 for each worker in a step", "it fits")
    assert len(after.decisions) == len(before.decisions)
    assert micro_batch_choices(TrainSpec(), after.train) == micro_batch_choices(TrainSpec(), before.train)


@pytest.mark.parametrize(("images", "batch"), [(100_000, 256), (4096, 256), (4095, 128), (100, 4), (17, 1)])
def test_an_automatic_batch_follows_the_images(images: int, batch: int) -> None:
    """256, or the power of two that still makes sixteen steps; the cluster has no say in it."""
    for gpus in (0, 1):
        found = plan({"batch": "auto", "workers": 1}, images, gpus).train
        assert found.micro_batches * found.micro_batch_rows == batch
        assert found.steps_per_epoch >= 16


def test_sizes_that_cannot_be_are_refused_with_ones_that_can() -> None:
    """A micro-batch that does not divide a worker's part, mixing of single images, and weights of unknown classes."""
    assert problem({"batch": 256, "workers": 2, "micro_batch": 48}).endswith("takes of a step; train.micro_batch=32 would work")
    assert problem({"batch": 64, "workers": 1, "micro_batch": 100}).endswith(
        "does not divide the 64 images of a step; train.micro_batch=64 would work"
    )
    assert "one image in each" in problem({"batch": 64, "workers": 1, "micro_batch": 1, "mixup": 0.2})
    assert problem({"class_weights": {"dgo": 2.0}}) == "train.class_weights names dgo, but the classes are cat, dog"
    assert "gives every class the weight 0" in problem({"class_weights": {"cat": 0.0, "dog": 0.0}})
    assert plan({"class_weights": {"cat": 0.0}})


@pytest.mark.parametrize(
    ("train", "value", "seen"),
    [
        ({"lr": 0.1, "batch": 256}, "0.1 at its peak, 0.00039 an image", "; usual: 0.0002 to 0.002 an image"),
        ({"lr": 1.0, "batch": 256}, "1 at its peak, 0.0039 an image", "; more than usual: 0.0002 to 0.002 an image"),
        ({"optimizer": "adamw", "batch": 256}, "0.001 at its peak, 3.9e-06 an image", "; usual: 5e-07 to 1e-05 an image"),
        (
            {"optimizer": "adamw", "lr": 1e-5, "batch": 64},
            "1e-05 at its peak, 1.6e-07 an image",
            "; less than usual: 5e-07 to 1e-05 an image",
        ),
    ],
)
def test_the_learning_rate_is_explained_for_one_image(train: dict[str, Any], value: str, seen: str) -> None:
    """It is stated for the global batch, whatever the workers, beside what is usual for the optimiser."""
    for workers in (1, 2):
        found, reason = line(plan(train | {"workers": workers}), "learning rate")
        assert found == value
        assert reason == f"train.lr, for the global batch on any number of workers{seen}"
