"""Residual networks, optimiser and learning rate, against values worked out by hand or published."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from orchestrator.spec.model import ModelSpec
from orchestrator.spec.train import TrainSpec
from orchestrator.training.models import build_model, count_parameters
from orchestrator.training.normalise import Normalize
from orchestrator.training.optim import build_optimizer, load_optimizer


@pytest.mark.parametrize(("name", "parameters"), [("resnet18", 11_689_512), ("resnet34", 21_797_672), ("resnet50", 25_557_032)])
def test_large_networks_have_torchvisions_parameters(name: str, parameters: int) -> None:
    """The counts for 1,000 classes are those that torchvision publishes."""
    assert count_parameters(build_model(ModelSpec(name=name), num_classes=1000, in_channels=3, image_size=224)) == parameters


def test_names_and_shapes_are_torchvisions() -> None:
    """Weight files of torchvision's ResNet-50 fit: stems, blocks, projections and the last layer are named alike."""
    state = build_model(ModelSpec(name="resnet50"), num_classes=1000, in_channels=3, image_size=224).state_dict()
    blocks = {1: 3, 2: 4, 3: 6, 4: 3}
    norm = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    names = ["conv1.weight", "fc.weight", "fc.bias", *(f"bn1.{part}" for part in norm)]
    for layer, count in blocks.items():
        for block in range(count):
            place = f"layer{layer}.{block}"
            names += [f"{place}.conv{number}.weight" for number in (1, 2, 3)]
            names += [f"{place}.bn{number}.{part}" for number in (1, 2, 3) for part in norm]
        names += [f"layer{layer}.0.downsample.0.weight", *(f"layer{layer}.0.downsample.1.{part}" for part in norm)]
    assert sorted(state) == sorted(names)
    assert state["conv1.weight"].shape == (64, 3, 7, 7)
    assert state["layer2.0.conv2.weight"].shape == (128, 128, 3, 3)
    assert state["layer4.0.downsample.0.weight"].shape == (2048, 1024, 1, 1)


@pytest.mark.parametrize("name", ["resnet8", "resnet20", "resnet18", "resnet50"])
@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_network_takes_every_kind_of_image(name: str, norm: str, channels: int) -> None:
    """Logits have one column a class; with group normalisation there is no buffer."""
    model = build_model(ModelSpec(name=name, norm=norm), num_classes=7, in_channels=channels, image_size=32).eval()
    assert model(torch.zeros(2, channels, 32, 32)).shape == (2, 7)
    assert (norm == "group") == (not list(model.buffers()))


def test_normalisation_is_the_textbook_one() -> None:
    """(x / 255 - mean) / std, with the channels moved to the front."""
    images = torch.arange(2 * 3 * 4 * 3, dtype=torch.uint8).reshape(2, 3, 4, 3)
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    expected = ((images.numpy() / 255 - np.array(mean)) / np.array(std)).transpose(0, 3, 1, 2)
    torch.testing.assert_close(Normalize(mean, std)(images), torch.tensor(expected, dtype=torch.float32))


def test_biases_and_normalisation_are_not_decayed() -> None:
    """Weight decay applies to matrices and kernels alone; every parameter is in one group."""
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    for name in ("sgd", "adamw"):
        decayed, plain = build_optimizer(model, TrainSpec(optimizer=name, weight_decay=0.1)).param_groups
        assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
        assert [parameter.ndim for parameter in decayed["params"]] == [4, 2]
        assert all(parameter.ndim == 1 for parameter in plain["params"])
        assert len(plain["params"]) == 4
        assert decayed["lr_scale"] == plain["lr_scale"] == 1.0


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_state_goes_on_with_the_step_of_the_device_that_it_comes_to(name: str) -> None:
    """From plain kernels to fused ones and back, at any time: the weights are those of an optimiser that never changed."""
    torch.manual_seed(0)
    still, moved = (nn.Linear(3, 2) for _ in range(2))
    moved.load_state_dict(still.state_dict())
    spec = TrainSpec(optimizer=name, lr=0.1, weight_decay=0.01)
    kept, optimizer = build_optimizer(still, spec), build_optimizer(moved, spec)
    for fused in (None, True, None):
        before, optimizer = optimizer.state_dict(), build_optimizer(moved, spec)
        for group in optimizer.param_groups:
            group["fused"] = fused
        load_optimizer(optimizer, before)
        assert [group["fused"] for group in optimizer.param_groups] == [fused] * len(optimizer.param_groups)
        for step in range(3):
            for one, other in zip(still.parameters(), moved.parameters(), strict=True):
                one.grad = torch.full_like(one, step - 0.5)
                other.grad = one.grad.clone()
            kept.step()
            optimizer.step()
    for one, other in zip(still.parameters(), moved.parameters(), strict=True):
        torch.testing.assert_close(other, one)


def test_fused_sgd_that_has_taken_no_step_goes_on_with_no_momentum() -> None:
    """As after nothing but fp16 overflows on another device: torch would begin with memory as it lies there."""
    model = nn.Linear(3, 2)
    state = build_optimizer(model, TrainSpec()).state_dict()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, fused=True)
    state["param_groups"] = [{**optimizer.state_dict()["param_groups"][0], "fused": None}]
    load_optimizer(optimizer, state)
    assert [optimizer.state[parameter]["momentum_buffer"].tolist() for parameter in model.parameters()] == [[[0.0] * 3] * 2, [0.0] * 2]
