"""What a network costs, counted without building it: against counts by hand and against tensors that are there."""

from __future__ import annotations

import pytest
import torch

from orchestrator.errors import TrainingError
from orchestrator.plan.values import ModelFacts
from orchestrator.spec.model import NETWORKS, ModelSpec
from orchestrator.training.cost import model_facts
from orchestrator.training.models import build_model
from orchestrator.training.weights import StartWeights


def facts(name: str = "resnet18", size: int = 224, classes: int = 1000, weights: StartWeights | None = None) -> ModelFacts:
    return model_facts(ModelSpec(name=name), weights, num_classes=classes, in_channels=3, image_size=size)


def vit_macs(width: int, depth: int, tokens: int) -> int:
    """Multiply-adds: patches, and in each block the projections, attention both ways, and the MLP; one row of the classifier."""
    block = tokens * (3 + 1 + 8) * width * width + 2 * tokens * tokens * width
    return (tokens - 1) * 3 * 16 * 16 * width + depth * block + 1000 * width


@pytest.mark.parametrize(
    ("name", "macs"),
    [
        ("resnet18", 1_814_073_344),
        ("resnet34", 3_663_761_408),
        ("resnet50", 4_089_184_256),
        ("vit_tiny", vit_macs(192, 12, 197)),
        ("vit_small", vit_macs(384, 12, 197)),
    ],
)
def test_operations_are_the_published_ones(name: str, macs: int) -> None:
    """A multiply-add is two operations: torchvision publishes 1.81, 3.66 and 4.09 billion multiply-adds; transformers by formula."""
    assert facts(name).image_flops == 2 * macs


def test_parameters_and_statistics_are_counted() -> None:
    """ResNet-18: 11,689,512 parameters of four bytes, 9,600 statistics of four, 20 counters of eight."""
    found = facts()
    assert (found.parameters, found.trained) == (11_689_512, 11_689_512)
    assert found.state_bytes == 4 * (11_689_512 + 9_600) + 8 * 20


@pytest.mark.parametrize("name", ["resnet8", "resnet18", "convnext_femto"])
def test_what_is_kept_for_the_backward_pass_is_what_torch_keeps(name: str) -> None:
    """The same count on real tensors at 32 pixels, for a batch of 2."""
    model = build_model(ModelSpec(name=name), num_classes=10, in_channels=3, image_size=32)
    own = {parameter.data_ptr() for parameter in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(torch.zeros(2, 3, 32, 32))
    total = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    assert facts(name, 32, 10).image_bytes == pytest.approx(total / 2, rel=0.02)


def test_a_frozen_backbone_keeps_next_to_nothing() -> None:
    """Only the last layer is trained, so only its inputs are kept."""
    weights = StartWeights(
        "net.pt", "ab", build_model(ModelSpec(name="resnet18"), num_classes=5, in_channels=3, image_size=224).state_dict()
    )
    spec = ModelSpec(name="resnet18", weights="net.pt", freeze="backbone")
    found = model_facts(spec, weights, num_classes=10, in_channels=3, image_size=224)
    assert found.trained == 512 * 10 + 10
    assert found.image_bytes < 10_000 < facts().image_bytes
    assert (found.weights_sha256, found.new_head) == ("ab", "new fc for 10 classes, instead of 5")


@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_is_allocated(name: str) -> None:
    """Images of 1,024 pixels would take gigabytes; the facts come from tensors without storage."""
    assert facts(name, 1024).image_flops > 10**9


def test_weights_that_do_not_fit_are_an_error() -> None:
    """Before anything is built."""
    with pytest.raises(TrainingError, match=r"net.pt does not fit the network: .*conv1.weight is missing"):
        facts(weights=StartWeights("net.pt", "ab", {"x": torch.zeros(1)}))
