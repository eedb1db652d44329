"""What the plan says about the network: arithmetic on what was counted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.plan.make import DataFacts, make_plan
from orchestrator.plan.memory import memory_parts
from orchestrator.plan.values import ClusterShape, ModelFacts, Plan
from orchestrator.spec.job import DataSpec, JobSpec
from orchestrator.spec.model import ModelSpec
from orchestrator.spec.train import TrainSpec

FACTS = ModelFacts(parameters=1_000_000, trained=1_000_000, state_bytes=4_000_100, image_flops=2_500_000_000, image_bytes=3_000_000)


def job(model: dict[str, Any] | None = None, **train: Any) -> JobSpec:
    settings = {"batch": 64, "workers": 2} | train
    return JobSpec(name="shapes", data=DataSpec(source="/images"), model=ModelSpec(**(model or {})), train=TrainSpec(**settings))


def plan(asked: JobSpec, facts: ModelFacts | None = FACTS) -> Plan:
    images = DataFacts("0" * 16, ("a", "b"), {"train": 1000, "validation": 100, "test": 100})
    return make_plan(asked, images, ClusterShape(cpus=4, gpus=0), "job.yaml", facts)


def said(made: Plan) -> dict[str, str]:
    return {decision.what: f"{decision.value} ({decision.reason})" for decision in made.decisions}


@pytest.mark.parametrize(
    ("train", "moments"), [({"optimizer": "sgd"}, 4_000_000), ({"momentum": 0.0}, 0), ({"optimizer": "adamw"}, 8_000_000)]
)
def test_memory_is_added_up_by_purpose(train: dict[str, Any], moments: int) -> None:
    """Weights, gradients, what the optimiser keeps, and activations of the 32 images that each of two workers takes at once."""
    asked = job(**train)
    parts = memory_parts(asked, FACTS, plan(asked).train)
    assert list(parts.values()) == [4_000_100, 4_000_000, moments, 32 * 3_000_000]


def test_an_average_of_the_weights_is_a_second_network() -> None:
    """`train.ema` keeps all parameters and statistics once more."""
    asked = job(ema=0.999)
    assert memory_parts(asked, FACTS, plan(asked).train)["average"] == 4_000_100
    assert "average 3.8 MiB" in said(plan(asked))["memory"]


def test_half_precision_halves_activations() -> None:
    """Where the job asks for it, and on GPUs where it says nothing; so what the plan calls the least is the least."""
    whole, half = plan(job()), plan(job(precision="bf16"))
    assert list(memory_parts(job(precision="bf16"), FACTS, half.train).values())[-1] == 32 * 1_500_000
    assert "in half precision" in said(half)["memory"]
    assert "in half precision" not in said(whole)["memory"]
    on_gpu = replace(whole.train, device="cuda")
    assert list(memory_parts(job(), FACTS, on_gpu).values())[-1] == 32 * 1_500_000
    assert list(memory_parts(job(precision="fp32"), FACTS, on_gpu).values())[-1] == 32 * 3_000_000


def test_the_plan_tells_parameters_operations_and_memory() -> None:
    """Each with how it was counted; plan.json has the numbers."""
    made = plan(job())
    assert said(made)["network"] == "resnet18, 1,000,000 parameters (model.name; all of them are trained)"
    assert said(made)["compute"] == "2.5 GFLOPs an image (forward, of 224 pixels, a multiply-add is two; about 7.5 in training)"
    assert said(made)["memory"].startswith("at least 103.0 MiB a worker (weights 3.8 MiB + gradients 3.8 MiB + sgd 3.8 MiB + ")
    assert made.to_json()["model"]["image_flops"] == 2_500_000_000
    assert "start" not in said(made)


def test_frozen_layers_need_no_gradients() -> None:
    """And no moments of the optimiser; the weights they start with are named with their hash and the new last layer."""
    facts = ModelFacts(1_000_000, 1_000, 4_000_100, 2_500_000_000, 2_000, "abcdef0123456789", "new fc for 2 classes, instead of 1,000")
    asked = job({"weights": "/net.pt", "freeze": "backbone"})
    made = plan(asked, facts)
    assert list(memory_parts(asked, facts, made.train).values()) == [4_000_100, 4_000, 4_000, 64_000]
    assert "1,000 of them are trained" in said(made)["network"]
    assert said(made)["start"] == "/net.pt (model.weights; sha256 abcdef012345; new fc for 2 classes, instead of 1,000)"


def test_a_function_of_the_users_is_not_counted() -> None:
    """Only the workers import it."""
    made = plan(job({"entry": "nets:build"}), None)
    assert said(made)["network"] == "nets:build (a function of yours, which only the workers import)"
    assert "memory" not in said(made)
