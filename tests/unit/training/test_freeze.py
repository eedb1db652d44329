"""Frozen layers stay bit for bit, the others move; layers may learn at rates of their own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import NEVER, STEPS, Events, StopAfter, make_feed, make_work
from safetensors.torch import load_file
from torch import nn

from orchestrator.errors import TrainingError
from orchestrator.spec.model import ModelSpec
from orchestrator.spec.train import TrainSpec
from orchestrator.training.freeze import freeze_layers
from orchestrator.training.groups import parameter_groups
from orchestrator.training.loop import train_worker
from orchestrator.training.models import build_model
from orchestrator.training.optim import build_optimizer, set_learning_rate
from orchestrator.training.weights import StartWeights
from orchestrator.training.work import TrainWork


def network(**spec: Any) -> nn.Module:
    return build_model(ModelSpec(**({"name": "resnet8"} | spec)), num_classes=2, in_channels=1, image_size=16)


def work_with(tmp_path: Path, **spec: Any) -> tuple[TrainWork, StartWeights]:
    """Training that starts from weights and freezes some of them."""
    work = make_work(tmp_path, train={"weight_decay": 0.01})
    model = ModelSpec(name="resnet8", weights="/net.safetensors", **spec)
    start = build_model(model, num_classes=2, in_channels=1, image_size=8)
    start.bn1.running_mean.fill_(0.25)  # type: ignore[union-attr, operator]
    return replace(work, job=work.job.model_copy(update={"model": model})), StartWeights("/net.safetensors", "0", start.state_dict())


@pytest.mark.parametrize(
    ("freeze", "kept"),
    [
        ("backbone", lambda name: not name.startswith("fc.")),
        (["conv1", "bn1", "layer1"], lambda name: name.startswith(("conv1", "bn1", "layer1"))),
    ],
)
def test_frozen_layers_stay_bit_for_bit(tmp_path: Path, freeze: Any, kept: Any, events: Events) -> None:
    """Weights, and the statistics of batch normalisation; everything else moves. Three epochs with weight decay."""
    work, start = work_with(tmp_path, freeze=freeze)
    train_worker(work, make_feed(), StopAfter(NEVER), events, lambda: start)
    trained = load_file(work.model_folder / "weights.safetensors")
    assert trained.keys() == start.tensors.keys()
    for name, tensor in trained.items():
        assert torch.equal(tensor, start.tensors[name]) == bool(kept(name)), name
    assert events.named("WeightsLoaded") == [{"event": "WeightsLoaded", "source": "/net.safetensors", "sha256": "0", "new_head": ""}]


def test_a_resumed_run_does_not_start_from_the_file_again(tmp_path: Path, events: Events) -> None:
    """Stopped in the second epoch and started again, it ends with the bits of a run that was not stopped, and asks for no file."""
    work, start = work_with(tmp_path / "stopped", freeze=["conv1"])
    train_worker(work, make_feed(), StopAfter(STEPS + 3), events, lambda: start)

    def unwanted() -> StartWeights:
        raise AssertionError

    train_worker(work, make_feed(1, 2), StopAfter(NEVER), events, unwanted)
    whole, _ = work_with(tmp_path / "whole", freeze=["conv1"])
    train_worker(whole, make_feed(), StopAfter(NEVER), Events(), lambda: start)
    expected = load_file(whole.model_folder / "weights.safetensors")
    for name, tensor in load_file(work.model_folder / "weights.safetensors").items():
        assert torch.equal(tensor, expected[name]), name


def test_what_cannot_be_frozen_is_said() -> None:
    """A name that the network does not have, with the near one; a user's network of which nothing is left."""
    spec = ModelSpec(name="resnet8", weights="x", freeze=["layer1", "layr2"])
    with pytest.raises(
        TrainingError, match=r"the network has no layer layr2; did you mean layer2\?\n.*conv1, bn1, layer1, layer2, layer3, fc"
    ):
        freeze_layers(network(), spec, 2)
    with pytest.raises(TrainingError, match="nothing of the network is left to train"):
        freeze_layers(network(), ModelSpec(name="resnet8", weights="x", freeze=["conv1", "bn1", "layer1", "layer2", "layer3", "fc"]), 2)


def table(model: nn.Module, layer_decay: float) -> dict[str, tuple[float, float]]:
    """Name of each parameter: its scale and its weight decay."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model, weight_decay=0.1, layer_decay=layer_decay)
    return {names[id(parameter)]: (group["lr_scale"], group["weight_decay"]) for group in groups for parameter in group["params"]}


def test_rates_by_layer_are_a_table_written_by_hand() -> None:
    """Of a residual network of three blocks, five layers: 0.5 each step down from the last; vectors are not decayed."""
    found = table(network(), 0.5)
    assert found.keys() == {name for name, _ in network().named_parameters()}
    assert {name: found[name] for name in ("conv1.weight", "bn1.weight", "layer1.0.conv2.weight", "layer1.0.bn2.bias")} == {
        "conv1.weight": (0.0625, 0.1),
        "bn1.weight": (0.0625, 0.0),
        "layer1.0.conv2.weight": (0.125, 0.1),
        "layer1.0.bn2.bias": (0.125, 0.0),
    }
    assert {name: found[name] for name in ("layer2.0.downsample.0.weight", "layer3.0.conv1.weight", "fc.weight", "fc.bias")} == {
        "layer2.0.downsample.0.weight": (0.25, 0.1),
        "layer3.0.conv1.weight": (0.5, 0.1),
        "fc.weight": (1.0, 0.1),
        "fc.bias": (1.0, 0.0),
    }


def test_rates_of_a_transformer_are_those_of_beit() -> None:
    """14 layers: what comes before the blocks, 12 blocks, norm and head. Positions and the class token are not decayed."""
    found = table(network(name="vit_tiny"), 0.75)
    assert found["pos_embed"] == found["cls_token"] == (0.75**13, 0.0)
    assert found["patch_embed.proj.weight"] == (0.75**13, 0.1)
    assert [found[f"blocks.{number}.attn.qkv.weight"] for number in range(12)] == [(0.75 ** (12 - number), 0.1) for number in range(12)]
    assert found["norm.weight"] == (1.0, 0.0)
    assert found["head.weight"] == (1.0, 0.1)


def test_rates_of_a_convnext_take_a_block_at_a_time() -> None:
    """A shrinking convolution belongs to the block after it; 12 blocks stand between stem and head."""
    found = table(network(name="convnext_femto"), 0.5)
    assert found["stem.0.weight"] == (0.5**13, 0.1)
    assert found["stages.1.downsample.1.weight"] == found["stages.1.blocks.0.conv_dw.weight"] == (0.5**10, 0.1)
    assert found["stages.3.blocks.1.gamma"] == (0.5, 0.0)
    assert found["head.norm.bias"] == (1.0, 0.0)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_rate_of_a_step_is_scaled_by_layer(optimizer: str) -> None:
    """Whatever the schedule says now, each layer takes its share; frozen parameters are in no group."""
    model = network()
    model.fc.requires_grad_(requires_grad=False)  # type: ignore[union-attr, operator]
    built = build_optimizer(model, TrainSpec(optimizer=optimizer, layer_decay=0.5))
    set_learning_rate(built, 0.8)
    assert [group["lr"] for group in built.param_groups] == pytest.approx([0.05, 0.05, 0.1, 0.1, 0.2, 0.2, 0.4, 0.4])


def test_a_network_that_does_not_tell_its_layers_is_refused() -> None:
    """Nothing is guessed; without layer_decay it trains as any other."""
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(TrainingError, match=r"does not tell its layers in their order\n.*layers = "):
        parameter_groups(model, weight_decay=0.1, layer_decay=0.9)
    assert len(parameter_groups(model, weight_decay=0.1, layer_decay=1.0)) == 2
    model.layers = (("0",),)  # type: ignore[assignment]
    with pytest.raises(TrainingError, match=r"2\.weight is in none of the layers"):
        parameter_groups(model, weight_decay=0.1, layer_decay=0.9)
