"""Weights to start from: taken over exactly or refused with everything that is wrong, and never run."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save

from orchestrator.errors import TrainingError
from orchestrator.spec.model import ModelSpec
from orchestrator.training.models import build_model
from orchestrator.training.weights import StartWeights, parse_weights, start_from


def network(classes: int = 3, **spec: Any) -> torch.nn.Module:
    return build_model(ModelSpec(**({"name": "resnet8"} | spec)), num_classes=classes, in_channels=3, image_size=16)


def saved(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def take(content: bytes, model: torch.nn.Module, classes: int = 3) -> str:
    return start_from(model, parse_weights(content, "net.pt"), classes)


FORMS = {
    "safetensors": save,
    "torch.save": saved,
    "a checkpoint with more in it": lambda state: saved({"epoch": 3, "model": state, "rng": torch.zeros(2)}),
    "lightning": lambda state: saved({"state_dict": state}),
    "data-parallel": lambda state: saved({f"module.{name}": tensor for name, tensor in state.items()}),
    "without counters": lambda state: save({name: tensor for name, tensor in state.items() if "num_batches" not in name}),
}


@pytest.mark.parametrize("form", FORMS)
def test_weights_come_back_bit_for_bit(form: str) -> None:
    """From every form that training programs write."""
    source, target = network(), network()
    source.bn1.running_mean.fill_(0.5)  # type: ignore[union-attr, operator]
    assert take(FORMS[form](source.state_dict()), target) == ""
    for name, tensor in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], tensor), name


def test_the_hash_is_that_of_the_file() -> None:
    """sha256 of every byte, as sha256sum prints it."""
    content = save({"x": torch.zeros(1)})
    assert parse_weights(content, "x").sha256 == hashlib.sha256(content).hexdigest()


def test_a_head_for_other_classes_is_new() -> None:
    """Everything else is taken over, the last layer keeps the values it was seeded with, and one line says so."""
    source, target = network(classes=1000), network(classes=3)
    before = target.fc.weight.clone()  # type: ignore[union-attr, operator]
    assert take(save(source.state_dict()), target) == "new fc for 3 classes, instead of 1,000"
    assert torch.equal(target.fc.weight, before)  # type: ignore[union-attr, arg-type]
    assert torch.equal(target.conv1.weight, source.conv1.weight)  # type: ignore[union-attr, arg-type]


def test_a_file_without_a_head_is_taken() -> None:
    """As of networks that were trained without labels."""
    state = {name: tensor for name, tensor in network().state_dict().items() if not name.startswith("fc.")}
    assert take(save(state), network()) == "new fc for 3 classes, the file has none"


def test_everything_that_does_not_fit_is_named_at_once() -> None:
    """Missing, unknown and misshaped; nothing is taken over."""
    target = network(classes=3)
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    state = network(classes=5).state_dict() | {"conv9.weight": torch.zeros(1), "conv1.weight": torch.zeros(16, 3, 7, 7)}
    state.pop("layer2.0.bn1.bias")
    with pytest.raises(TrainingError) as raised:
        take(save(state), target)
    assert raised.value.message == (
        "net.pt does not fit the network: layer2.0.bn1.bias is missing, conv9.weight is unknown, "
        "conv1.weight is (16, 3, 7, 7), not (16, 3, 3, 3)"
    )
    assert all(torch.equal(tensor, before[name]) for name, tensor in target.state_dict().items())


def test_a_file_of_another_network_shows_the_first_names_and_how_many_more() -> None:
    """A screen of names is enough."""
    with pytest.raises(TrainingError, match=r"conv1.weight is missing, .*, and \d+ more"):
        take(save({"features.0.weight": torch.zeros(3)}), network())


class Runs:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("trust", ["0", "1"])
def test_code_in_a_file_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trust: str) -> None:
    """Whatever the environment asks of torch."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", trust)
    content = saved({"model": network().state_dict(), "extra": Runs(tmp_path / "ran")})
    with pytest.raises(
        TrainingError, match=r"net.pt is no file of weights, or .* more than tensors: it would call posix.mkdir\n.*store the tensors alone"
    ):
        parse_weights(content, "net.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "no file of weights"),
        (b"<!DOCTYPE html><title>404 Not Found</title>", "no file of weights"),
        (save({"x": torch.zeros(100)})[:-8], "no file of weights"),
        (saved({"x": torch.zeros(100)})[:-100], "no file of weights"),
        (saved([torch.zeros(1)]), "holds no weights by name: list"),
        (saved({"x": torch.zeros(1), "epoch": 3}), "holds no weights by name: epoch"),
        (saved({}), "holds no weights by name: nothing"),
        (saved({7: torch.zeros(1)}), "holds no weights by name: 7"),
        (saved({"x": torch.eye(2).to_sparse()}), "holds no weights by name: x"),
        (save({"x": torch.tensor([1.0, float("nan")]), "y": torch.zeros(1)}), "holds weights that are not finite: x\n"),
    ],
)
def test_what_holds_no_weights_is_refused(content: bytes, found: str) -> None:
    """Empty, a web page, cut, something else, or what no training can start from."""
    with pytest.raises(TrainingError, match=found):
        parse_weights(content, "net.pt")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_damaged_file_is_one_error_wherever_it_is_damaged(zipped: bool) -> None:
    """Of bytes changed by chance in what tells tensors from one another, each gives weights or says that there are none."""
    buffer, rng, refused = io.BytesIO(), np.random.default_rng(2), 0
    torch.save({"x": torch.zeros(2), "y": torch.ones(3)}, buffer, _use_new_zipfile_serialization=zipped)
    for _ in range(300):
        content = bytearray(buffer.getvalue())
        for place in rng.integers(len(content), size=2).tolist():
            content[place] = int(rng.integers(256))
        try:
            parse_weights(bytes(content), "net.pt")
        except TrainingError:
            refused += 1
    assert 0 < refused < 300


def test_weights_of_another_precision_are_converted() -> None:
    """Half precision in the file, float32 in the network."""
    source, target = network(), network()
    content = save({name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in source.state_dict().items()})
    take(content, target)
    assert target.conv1.weight.dtype == torch.float32  # type: ignore[union-attr]
    assert torch.equal(target.conv1.weight, source.conv1.weight.half().float())  # type: ignore[union-attr, arg-type, operator]


def test_a_network_without_storage_is_compared_too() -> None:
    """A plan knows that weights fit without building the network."""
    with torch.device("meta"):
        target = network(classes=3)
    weights = StartWeights("net.pt", "", network(classes=4).state_dict())
    assert start_from(target, weights, 3) == "new fc for 3 classes, instead of 4"
