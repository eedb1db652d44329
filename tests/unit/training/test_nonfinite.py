"""A loss or a gradient that is not finite: who notices, what stays as it was, and when it is enough."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import EPOCHS, NEVER, STEPS, Events, StopAfter, assert_same_state, make_feed, make_work
from spawned import join, leave, spawn
from torch import Tensor, nn

from orchestrator.errors import TrainingError
from orchestrator.training.batch import Batch
from orchestrator.training.chance import Place
from orchestrator.training.checkpoint import CheckpointStore, Position
from orchestrator.training.finite import SKIPS_MAX
from orchestrator.training.loop import train_worker
from orchestrator.training.pulse import Pulse
from orchestrator.training.recipe import Recipe
from orchestrator.training.timing import Sums
from orchestrator.training.trainer import Trainer

FORWARD = Recipe.forward
CASES = {"stop": ("stop", (1,)), "first": ("skip", (0,)), "second": ("skip", (1,)), "both": ("skip", (0, 1))}
"""Policy and ranks with a NaN."""
EVERYTHING = {"ema": 0.8, "optimizer": "adamw", "lr": 0.01, "select": "last"}


def broken_at(patch: pytest.MonkeyPatch, is_broken: Callable[[Place], bool], factor: float = math.nan) -> None:
    """Let the loss of some micro-batches be no number, and what the forward pass has seen as well."""

    def forward(recipe: Recipe, model: nn.Module, images: Tensor, labels: Tensor, place: Place) -> tuple[Tensor, Tensor]:
        if is_broken(place):
            images = images * factor
        return FORWARD(recipe, model, images, labels, place)

    patch.setattr(Recipe, "forward", forward)


def group_rank(rank: int, workers: int, meeting: Path, place: Path) -> None:
    """NaN in the second step of the second epoch, on the ranks of each of CASES."""
    join(rank, workers, meeting)
    for name, (policy, ranks) in CASES.items():
        events = Events()
        with pytest.MonkeyPatch.context() as patch:
            broken_at(patch, lambda at, ranks=ranks: (at.epoch, at.step) == (1, 1) and at.part % workers in ranks)
            work = make_work(place / name, workers=workers, train=EVERYTHING | {"on_nonfinite": policy})
            try:
                train_worker(work, make_feed(micro_batches=workers, rank=rank, workers=workers), StopAfter(NEVER), events)
            except TrainingError as error:
                (place / name / f"raised-{rank}").write_text(str(error))
        if rank == 0:
            (place / name / "skipped.json").write_text(json.dumps(events.named("StepSkipped")))
    leave()


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two workers have trained all CASES."""
    place = tmp_path_factory.mktemp("group")
    spawn(group_rank, 2, place)
    return place


def final_state(place: Path) -> dict[str, Any]:
    checkpoint = CheckpointStore(place / "checkpoints").newest()
    assert checkpoint is not None
    return checkpoint.state


def test_stop_ends_all_workers_and_names_the_one(group: Path) -> None:
    """NaN on rank 1 alone: both ranks say where, who, and which checkpoint is from before; that one is finite."""
    place = group / "stop"
    for rank in (0, 1):
        said = (place / f"raised-{rank}").read_text()
        assert said.startswith("the loss is not finite on rank 1 after step 2 of epoch 2")
        assert "train.on_nonfinite=skip" in said
        assert f"the checkpoint of step {STEPS} is from before" in said
    assert all(bool(torch.isfinite(tensor).all()) for tensor in final_state(place)["model"].values())


def test_skip_leaves_the_step_out_on_all_workers(group: Path) -> None:
    """Whichever rank has the NaN, all end with the same weights, statistics, optimizer and averages, in every bit."""
    states = []
    for name in ("first", "second", "both"):
        place, ranks = group / name, CASES[name][1]
        assert not list(place.glob("raised-*"))
        (skipped,) = json.loads((place / "skipped.json").read_bytes())
        assert (skipped["epoch"], skipped["step"], skipped["global_step"]) == (1, 2, STEPS + 2)
        assert skipped["reason"].endswith(f"on rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}")
        states.append(final_state(place))
    for state in states[1:]:
        assert_same_state(state, states[0])


@pytest.mark.parametrize("fault", ["loss", "gradients"])
def test_a_step_that_is_left_out_changes_nothing_but_the_position(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """Neither weights, batch statistics, optimizer nor averages; the schedule and the images go on."""
    trainer = Trainer(make_work(tmp_path, train=EVERYTHING | {"on_nonfinite": "skip"}), Pulse())
    feed = make_feed()
    trainer.train_step(feed)
    before = copy.deepcopy(trainer.state_dict())
    if fault == "loss":
        broken_at(monkeypatch, lambda _: True)
    else:
        next(trainer.model.parameters()).register_hook(lambda gradient: gradient * math.inf)
    loss = trainer.train_step(feed)

    assert math.isfinite(loss) == (fault == "gradients")
    assert str(trainer.broken) == ("the loss is not finite on rank 0" if fault == "loss" else "the gradients are not finite")
    after = trainer.state_dict()
    del before["ranks"][0]["rng"], after["ranks"][0]["rng"]  # seeded anew for every micro-batch
    assert_same_state(after, before)
    assert trainer.position == Position(0, 2, 2)


def test_more_in_a_row_than_allowed_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: Events) -> None:
    """Ten are left out, the eleventh ends training; after a good step they count anew."""
    work = make_work(tmp_path, train={"on_nonfinite": "skip"})
    broken_at(monkeypatch, lambda place: place.epoch * STEPS + place.step > 0)
    with pytest.raises(TrainingError, match="in 11 steps in a row, the last one after step 4 of epoch 3"):
        train_worker(work, make_feed(), StopAfter(NEVER), events)
    assert len(events.named("StepSkipped")) == SKIPS_MAX + 1

    monkeypatch.undo()
    others = Events()
    broken_at(monkeypatch, lambda place: place.epoch * STEPS + place.step != SKIPS_MAX // 2)
    train_worker(make_work(tmp_path / "other", train={"on_nonfinite": "skip"}), make_feed(), StopAfter(NEVER), others)
    assert len(others.named("StepSkipped")) == 3 * STEPS - 1
    assert others.named("EpochFinished")[0]["train_loss"] is None


def test_gradients_that_overflow_with_a_scaled_loss_are_no_fault(tmp_path: Path, events: Events) -> None:
    """fp16 begins with a scale that is too large and finds the right one by leaving out steps itself."""
    work = make_work(tmp_path, train={"on_nonfinite": "skip", "precision": "fp16"})
    train_worker(work, make_feed(), StopAfter(NEVER), events)
    assert events.named("StepSkipped") == []


def test_gradients_that_overflow_at_every_scale_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: Events) -> None:
    """fp16, a finite loss, and gradients that never are: once no scale is worth trying training ends, instead of leaving out every step to
    the end.
    """

    def forward(recipe: Recipe, model: nn.Module, images: Tensor, labels: Tensor, place: Place) -> tuple[Tensor, Tensor]:
        loss, hits = FORWARD(recipe, model, images, labels, place)
        loss.register_hook(lambda gradient: gradient * math.inf)
        return loss, hits

    monkeypatch.setattr(Recipe, "forward", forward)
    monkeypatch.setattr(torch.amp.GradScaler, "__init__", partialmethod(torch.amp.GradScaler.__init__, init_scale=5e-4))
    with pytest.raises(TrainingError, match="overflow fp16 however the loss is scaled after step 3 of epoch 1") as raised:
        train_worker(make_work(tmp_path, train={"precision": "fp16"}), make_feed(), StopAfter(NEVER), events)
    assert "train.precision" in raised.value.next_step


@pytest.mark.parametrize("policy", ["stop", "skip"])
def test_a_validation_loss_that_is_not_finite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: Events, policy: str) -> None:
    """Where a broken step would stop training it does so as well, by name; else the epoch has none, and its accuracy counts."""
    validate = Trainer.validate_batch

    def spoil(trainer: Trainer, feed: Iterator[Batch], number: int, sums: Sums) -> None:
        validate(trainer, feed, number, sums)
        sums.loss = math.inf

    monkeypatch.setattr(Trainer, "validate_batch", spoil)
    work = make_work(tmp_path, train={"on_nonfinite": policy})
    if policy == "stop":
        with pytest.raises(TrainingError, match=f"the validation loss is not finite after step {STEPS} of epoch 1") as raised:
            train_worker(work, make_feed(), StopAfter(NEVER), events)
        assert "train.on_nonfinite=skip" in raised.value.next_step
        return
    train_worker(work, make_feed(), StopAfter(NEVER), events)
    assert [event["validation_loss"] for event in events.named("EpochFinished")] == [None] * EPOCHS
    assert all(event["validation_accuracy"] is not None for event in events.named("EpochFinished"))


def test_skip_costs_no_bits(tmp_path: Path) -> None:
    """Where nothing is broken both policies train the same."""
    states = []
    for policy in ("stop", "skip"):
        work = make_work(tmp_path / policy, train=EVERYTHING | {"on_nonfinite": policy})
        train_worker(work, make_feed(), StopAfter(NEVER), Events())
        states.append(final_state(tmp_path / policy))
    assert_same_state(*states)


def test_broken_weights_never_become_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: Events) -> None:
    """With `stop` the last step of an epoch breaks the weights by its gradients alone: neither a model nor a checkpoint is left."""
    work = make_work(tmp_path)
    take = Trainer._take_step

    def spoil(trainer: Trainer, losses: Tensor) -> None:
        take(trainer, losses)
        if trainer.position.step == STEPS:
            with torch.no_grad():
                next(trainer.model.parameters()).fill_(math.inf)

    monkeypatch.setattr(Trainer, "_take_step", spoil)
    with pytest.raises(TrainingError, match="the weights are not finite"):
        train_worker(work, make_feed(), StopAfter(NEVER), events)
    assert not work.model_folder.exists()
    assert CheckpointStore(work.checkpoints).newest() is None


def test_statistics_of_any_rank_are_looked_at_and_masks_are_not(tmp_path: Path) -> None:
    """What is saved with the model has to be finite on every rank; a buffer that is made anew each time, as a mask, may be infinite."""
    finite, mask = torch.zeros(2), torch.full((2,), -math.inf)
    state = {"model": {"mean": finite}, "ranks": [{"buffers": {"mean": finite, "mask": mask}}]}
    CheckpointStore(tmp_path).save(Position(0, 1, 1), state)
    state["ranks"].append({"buffers": {"mean": mask}})  # type: ignore[attr-defined]
    with pytest.raises(TrainingError, match="the statistics of rank 1 are not finite: mean"):
        CheckpointStore(tmp_path).save(Position(0, 2, 2), state)


def test_an_optimizer_that_is_not_finite_is_never_saved(tmp_path: Path) -> None:
    """With weights that still are, training would go on and learn nothing."""
    sums = {"state": {0: {"step": torch.tensor(1.0), "exp_avg_sq": torch.tensor([math.inf])}}, "param_groups": []}
    with pytest.raises(TrainingError, match="the sums of the optimizer are not finite: exp_avg_sq of 0"):
        CheckpointStore(tmp_path).save(Position(0, 1, 1), {"model": {}, "optimizer": sums})
    assert not list(tmp_path.glob("step-*"))
