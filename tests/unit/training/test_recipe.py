"""What happens to a micro-batch, and that it depends on its place alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from conftest import NEVER, Events, StopAfter, make_feed, make_work
from safetensors.torch import load_file
from torch import nn

from orchestrator.errors import TrainingError
from orchestrator.training.chance import Place
from orchestrator.training.checkpoint import Position
from orchestrator.training.export import load_model
from orchestrator.training.loop import train_worker
from orchestrator.training.pulse import Pulse
from orchestrator.training.recipe import Recipe
from orchestrator.training.trainer import Trainer

CPU = torch.device("cpu")


def logits_of(recipe: Recipe, place: Place) -> torch.Tensor:
    """What a network that drops half of its inputs makes of ones."""
    found: list[torch.Tensor] = []
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5))
    model.register_forward_hook(lambda _module, _inputs, output: found.append(output))
    recipe.forward(model, torch.ones(4, 1, 8, 8), torch.tensor([0, 1, 2, 3]), place)
    return found[0]


def test_dropout_depends_on_the_place_alone(tmp_path: Path) -> None:
    """Whatever was drawn before, a micro-batch drops the same numbers; another one, and another seed, drops others."""
    recipe, place = Recipe(make_work(tmp_path), CPU), Place(1, 2, 3)
    first = logits_of(recipe, place)
    torch.rand(7)
    assert torch.equal(logits_of(recipe, place), first)
    assert not torch.equal(logits_of(recipe, Place(1, 2, 0)), first)
    assert not torch.equal(logits_of(Recipe(make_work(tmp_path, train={"seed": 1}), CPU), place), first)


def test_class_weights_reach_the_gradient(tmp_path: Path) -> None:
    """A class of weight 0 teaches nothing: training with it is training on labels that nobody compares."""
    plain = make_work(tmp_path / "plain", norm="group", train={"select": "last"})
    even = replace(make_work(tmp_path / "even", norm="group", train={"select": "last"}), class_weights=(1.0, 1.0))
    odd = replace(make_work(tmp_path / "odd", norm="group", train={"select": "last"}), class_weights=(0.0, 1.0))
    weights, events = [], Events()
    for work in (plain, even, odd):
        train_worker(work, make_feed(), StopAfter(NEVER), events)
        weights.append(load_file(work.model_folder / "weights.safetensors"))
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, atol=1e-5, rtol=0)
    bias = weights[2]["fc.bias"]
    assert bias[1] - bias[0] > (weights[0]["fc.bias"][1] - weights[0]["fc.bias"][0])


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_accumulation_equals_the_large_batch(tmp_path: Path, parts: int) -> None:
    """The whole recipe but mixing, whose partners come from inside a micro-batch: parameters agree within 1e-5."""
    recipe = {"select": "last", "ema": 0.8, "clip_norm": 1.0, "label_smoothing": 0.1}
    whole = replace(make_work(tmp_path / "whole", norm="group", train=recipe), class_weights=(0.5, 2.0))
    divided = replace(make_work(tmp_path / "parts", micro_batches=parts, norm="group", train=recipe), class_weights=(0.5, 2.0))
    train_worker(whole, make_feed(), StopAfter(NEVER), Events())
    train_worker(divided, make_feed(micro_batches=parts), StopAfter(NEVER), Events())
    expected = load_file(whole.model_folder / "weights.safetensors")
    for name, tensor in load_file(divided.model_folder / "weights.safetensors").items():
        torch.testing.assert_close(tensor, expected[name], atol=1e-5, rtol=0)


def test_what_is_random_outside_a_micro_batch_goes_on(tmp_path: Path) -> None:
    """A checkpoint holds where torch's generator stands, for every worker."""
    work = make_work(tmp_path)
    first = Trainer(work, Pulse())
    torch.rand(5)
    state = first.state_dict()
    expected = torch.rand(5)
    second = Trainer(work, Pulse())
    second.load_state_dict(state, Position(0, 1, 1))
    assert [set(rank["rng"]) for rank in state["ranks"]] == [{"cpu"}]
    assert torch.equal(torch.rand(5), expected)


def train_compiled(_: int, place: Path) -> None:
    """In a process of its own: what compiles warns of things that are none of ours."""
    work, events = make_work(place, norm="group", train={"compile": True, "ema": 0.9}), Events()
    try:
        train_worker(work, make_feed(), StopAfter(NEVER), events)
    except TrainingError as error:
        (place / "failure").write_text(str(error))
    (place / "losses.json").write_text(json.dumps([epoch["train_loss"] for epoch in events.named("EpochFinished")]))


@pytest.mark.slow
def test_a_compiled_network_trains_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same losses within rounding, and a model that loads like any other."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    events = Events()
    train_worker(make_work(tmp_path / "plain", norm="group", train={"ema": 0.9}), make_feed(), StopAfter(NEVER), events)
    mp.spawn(train_compiled, (tmp_path,))
    losses = json.loads((tmp_path / "losses.json").read_bytes())
    assert losses == pytest.approx([epoch["train_loss"] for epoch in events.named("EpochFinished")], abs=1e-4)
    assert load_model(tmp_path / "model")[0](torch.zeros(2, 1, 8, 8)).shape == (2, 2)


def test_without_a_compiler_compiling_is_refused_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that names the compiler, and the key that does without."""
    monkeypatch.setenv("CXX", str(tmp_path / "no-compiler"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    mp.spawn(train_compiled, (tmp_path,))
    failure = (tmp_path / "failure").read_text()
    assert "torch.compile failed" in failure
    assert "No working C++ compiler" in failure
    assert "train.compile=false" in failure


def test_mixed_training_reports_what_it_minimises(tmp_path: Path) -> None:
    """Every micro-batch mixed with even shares: the loss of a pair of two labels is at least log 2, and its hits are no whole number."""
    events = Events()
    work = make_work(tmp_path, train={"mixup": 1000.0})
    train_worker(work, make_feed(), StopAfter(NEVER), events)
    for epoch in events.named("EpochFinished"):
        assert epoch["train_loss"] > 0.3
        assert epoch["validation_loss"] > 0
    assert any(abs(epoch["train_accuracy"] * 32 - round(epoch["train_accuracy"] * 32)) > 1e-6 for epoch in events.named("EpochFinished"))
