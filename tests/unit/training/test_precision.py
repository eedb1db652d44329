"""Half precision stays close to single precision, overflow costs a step and no more, and gradients are clipped."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import NEVER, Events, StopAfter, make_feed, make_work
from torch import nn

from orchestrator.spec.model import ModelSpec
from orchestrator.training.checkpoint import CheckpointStore
from orchestrator.training.loop import train_worker
from orchestrator.training.precision import Precision, choose_precision
from orchestrator.training.pulse import Pulse
from orchestrator.training.recipe import Recipe
from orchestrator.training.trainer import Trainer

CPU = torch.device("cpu")


def train(place: Path, **train: Any) -> tuple[dict[str, torch.Tensor], list[float], Events]:
    """Weights, losses of the epochs, and events."""
    work, events = make_work(place, norm="group", train=train), Events()
    train_worker(work, make_feed(), StopAfter(NEVER), events)
    checkpoint = CheckpointStore(work.checkpoints).newest()
    assert checkpoint is not None
    return checkpoint.state["model"], [event["train_loss"] for event in events.named("EpochFinished")], events


@pytest.mark.parametrize(("precision", "loss_off", "alike"), [("bf16", 0.03, 0.95), ("fp16", 0.005, 0.99)])
def test_half_precision_is_close_to_single(tmp_path: Path, precision: str, loss_off: float, alike: float) -> None:
    """Twelve steps: losses agree, all weights together move the same way (cosine), and they stay float32."""
    weights, losses, _ = train(tmp_path / "fp32")
    other_weights, other_losses, events = train(tmp_path / precision, precision=precision)
    start = Trainer(make_work(tmp_path, norm="group"), Pulse()).model.state_dict()
    assert events.named("TrainingStarted")[0]["precision"] == precision
    assert other_losses == pytest.approx(losses, abs=loss_off)
    assert other_losses != losses
    assert {value.dtype for value in other_weights.values()} == {torch.float32}
    moved, other_moved = (
        torch.cat([(state[name] - value).flatten() for name, value in start.items()]) for state in (weights, other_weights)
    )
    assert torch.cosine_similarity(moved, other_moved, dim=0) > alike


def test_on_a_cpu_auto_is_half_precision_where_the_cpu_is_made_for_it(tmp_path: Path) -> None:
    """bf16 with AMX and fp32 without: the same bits as when asked for, and said so."""
    expected = "bf16" if "amx_bf16" in Path("/proc/cpuinfo").read_text() else "fp32"
    weights, losses, events = train(tmp_path / "auto", precision="auto")
    same, same_losses, _ = train(tmp_path / expected, precision=expected)
    assert choose_precision("auto", CPU) == events.named("TrainingStarted")[0]["precision"] == expected
    assert losses == same_losses
    assert all(torch.equal(value, same[name]) for name, value in weights.items())


def test_a_run_that_began_in_single_precision_goes_on_in_half(tmp_path: Path) -> None:
    """As on a machine that has another GPU, or one at all: the scale of the loss is that of a new run."""
    work = make_work(tmp_path, norm="group")
    train_worker(work, make_feed(), StopAfter(2), Events())
    checkpoint = CheckpointStore(work.checkpoints).newest()
    assert checkpoint is not None
    half = make_work(tmp_path, norm="group", train={"precision": "fp16"})
    resumed, scale = Trainer(half, Pulse()), Trainer(half, Pulse()).recipe.precision.scaler.get_scale()
    resumed.load_state_dict(checkpoint.state, checkpoint.position)
    assert resumed.recipe.precision.scaler.get_scale() == scale > 1
    assert resumed.position == checkpoint.position


def test_an_overflow_leaves_out_the_step() -> None:
    """fp16: a gradient that is not finite changes no weight and halves the scale; the next step is taken."""
    precision = Precision("fp16", CPU)
    parameter = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([parameter], 0.1)
    precision.backward((parameter * torch.tensor([1.0, 1e38])).sum())
    scale = precision.scaler.get_scale()
    precision.step(optimizer, 0.0)
    assert parameter.tolist() == [1.0, 1.0]
    assert precision.scaler.get_scale() == scale / 2
    precision.backward(parameter.sum())
    precision.step(optimizer, 0.0)
    assert parameter.tolist() == pytest.approx([0.9, 0.9])


@pytest.mark.parametrize("name", ["fp32", "fp16"])
def test_gradients_are_clipped_to_a_norm_over_all_weights(name: str) -> None:
    """A gradient of (3, 4), (12) has norm 13: clipped to 1 it is a thirteenth, whatever the loss is scaled by; to 20 it stays."""
    for limit, factor in ((1.0, 1 / 13), (20.0, 1.0), (0.0, 1.0)):
        precision = Precision(name, CPU)
        first, second = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))
        optimizer = torch.optim.SGD([{"params": [first]}, {"params": [second]}], 1.0)
        precision.backward((first * torch.tensor([3.0, 4.0])).sum() + 12 * second.sum())
        precision.step(optimizer, limit)
        assert [*first.tolist(), *second.tolist()] == pytest.approx([-3 * factor, -4 * factor, -12 * factor], rel=1e-5)


def test_clipping_bounds_what_a_step_moves(tmp_path: Path) -> None:
    """In training: plain SGD with a clipped gradient moves all weights together by the rate times the norm at most."""
    recipe = {"clip_norm": 1e-3, "momentum": 0.0, "weight_decay": 0.0, "schedule": "constant", "warmup": 0.0, "lr": 0.5}
    moved = []
    for steps in (1, 2):
        work = make_work(tmp_path / f"steps-{steps}", norm="group", train=recipe)
        train_worker(work, make_feed(), StopAfter(steps), Events())
        checkpoint = CheckpointStore(work.checkpoints).newest()
        assert checkpoint is not None
        moved.append(torch.cat([value.flatten() for value in checkpoint.state["model"].values()]))
    assert math.isclose(float((moved[1] - moved[0]).norm()), 0.5e-3, rel_tol=1e-2)


def test_channels_last_changes_where_numbers_are_and_not_what_they_are(tmp_path: Path) -> None:
    """The same losses within rounding."""
    _, losses, _ = train(tmp_path / "planes", channels_last=False)
    _, other, _ = train(tmp_path / "pixels", channels_last=True)
    assert other == pytest.approx(losses, abs=1e-4)


def test_channels_come_last_but_for_networks_that_may_not_expect_it(tmp_path: Path) -> None:
    """Left alone, our networks get them last; a function of the user's, which may call view, does not, unless the job says so."""
    work = make_work(tmp_path)
    own = ModelSpec(entry="some_package.networks:build")
    for model, train, last in ((work.job.model, {}, True), (own, {}, False), (own, {"channels_last": True}, True)):
        job = work.job.model_copy(update={"model": model, "train": work.job.train.model_copy(update=train)})
        assert Recipe(replace(work, job=job), CPU).channels_last is last
