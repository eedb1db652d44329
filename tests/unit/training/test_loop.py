"""One worker's training: where it stops, how it goes on, and what it refuses."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import EPOCHS, NEVER, STEPS, Events, StopAfter, assert_same_state, make_feed, make_work

from orchestrator.errors import StorageError, TrainingError
from orchestrator.training.checkpoint import START, CheckpointStore, Position, resume_position
from orchestrator.training.export import load_model
from orchestrator.training.loop import train_worker
from orchestrator.training.work import TrainWork, Wish


def train(work: TrainWork, events: Events, stop_after: int = NEVER) -> bool:
    """Train from where the checkpoints stand; True when it was stopped before the end."""
    position = resume_position(work.checkpoints)
    return train_worker(work, make_feed(position.epoch, position.step), StopAfter(stop_after), events).ended_by is Wish.STOP


def final_weights(work: TrainWork) -> dict[str, torch.Tensor]:
    checkpoint = CheckpointStore(work.checkpoints).newest()
    assert checkpoint is not None
    return dict(checkpoint.state["model"])


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def test_training_learns_and_leaves_a_model(tmp_path: Path, events: Events) -> None:
    """The loss falls, each epoch is reported once, and the best model can be loaded."""
    work = make_work(tmp_path)
    assert not train(work, events)
    epochs = events.named("EpochFinished")
    assert [epoch["epoch"] for epoch in epochs] == list(range(EPOCHS))
    assert epochs[-1]["train_loss"] < epochs[0]["train_loss"]
    assert len(events.named("WeightsVerified")) == EPOCHS
    model, preprocess = load_model(work.model_folder)
    assert preprocess["mean"] == [0.4]
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 2)


@pytest.mark.parametrize("step", range(1, STEPS * EPOCHS))
def test_stopped_after_any_step_and_resumed_gives_the_same_bits(tmp_path: Path, events: Events, step: int) -> None:
    """Stopped after each step of a run with batch statistics: weights, losses and the best epoch are those of the whole run."""
    whole, parts = make_work(tmp_path / "whole"), make_work(tmp_path / "parts")
    uninterrupted = Events()
    train(whole, uninterrupted)
    stopped = train(parts, events, stop_after=step)
    assert stopped
    assert events.named("TrainingStopped")[0]["global_step"] == step
    assert not train(parts, events)

    assert_same(final_weights(parts), final_weights(whole))
    assert events.named("TrainingStarted")[-1]["resumed_from_step"] == step
    losses = {event["epoch"]: (event["train_loss"], event["validation_loss"]) for event in events.named("EpochFinished")}
    assert losses == {event["epoch"]: (event["train_loss"], event["validation_loss"]) for event in uninterrupted.named("EpochFinished")}
    best = [event["best_epoch"] for event in (*events.named("TrainingFinished"), *uninterrupted.named("TrainingFinished"))]
    assert len(set(best)) == 1


RECIPE = {"ema": 0.8, "mixup": 0.4, "cutmix": 1.0, "precision": "fp16", "clip_norm": 1.0, "schedule": "one_cycle", "optimizer": "adamw"}
"""Everything that has a state or is random."""


@pytest.mark.parametrize("step", range(1, STEPS * EPOCHS))
def test_with_the_whole_recipe_resuming_gives_the_same_bits(tmp_path: Path, events: Events, step: int) -> None:
    """Averaged weights, mixing, scaled loss: stopped after each step and continued, the whole state is that of the whole run."""
    whole, parts = make_work(tmp_path / "whole", train=RECIPE), make_work(tmp_path / "parts", train=RECIPE)
    train(whole, Events())
    train(parts, events, stop_after=step)
    torch.manual_seed(step)  # another process would not go on where torch's generator stands
    train(parts, events)
    first, second = (CheckpointStore(work.checkpoints).newest() for work in (whole, parts))
    assert first is not None
    assert second is not None
    assert_same_state(second.state, first.state)
    assert first.state["scaler"]["_growth_tracker"] > 0


def test_a_checkpoint_of_another_version_is_passed_over_and_named(tmp_path: Path, events: Events) -> None:
    """A state that is laid out otherwise is not guessed at; the event says which format it has; it is not damaged."""
    work = make_work(tmp_path)
    train(work, events, stop_after=2)
    (path,) = work.checkpoints.glob("*/manifest.json")
    manifest = json.loads(path.read_bytes())
    assert manifest["versions"]["torch"] == torch.__version__
    path.write_text(json.dumps(manifest | {"format": 1}))
    assert resume_position(work.checkpoints) == START
    assert CheckpointStore(work.checkpoints).faults() == []  # whole, so that nobody is told to delete it
    train(work, events, stop_after=1)
    assert "format 1" in events.named("CheckpointRejected")[0]["reason"]


def test_a_finished_run_does_nothing(tmp_path: Path, events: Events) -> None:
    """Started again after its last epoch, training reads no image and changes no weight."""
    work = make_work(tmp_path)
    train(work, events)
    before = final_weights(work)
    assert resume_position(work.checkpoints).epoch == EPOCHS
    assert train_worker(work, iter(()), StopAfter(NEVER), events).ended_by is Wish.GO_ON
    assert_same(final_weights(work), before)


def test_a_loss_that_is_not_finite_stops_with_its_place(tmp_path: Path, events: Events) -> None:
    """The error names step, epoch and the checkpoint from before; nothing broken is saved."""
    work = make_work(tmp_path, train={"lr": 1e30, "warmup": 0.0})
    with pytest.raises(TrainingError, match=r"not finite after step \d+ of epoch 1") as raised:
        train(work, events)
    assert "train.lr" in raised.value.next_step
    assert resume_position(work.checkpoints) == START


def test_a_feed_out_of_order_is_refused(tmp_path: Path, events: Events) -> None:
    """A micro-batch of another step never trains anything, and a feed that ends early is named."""
    with pytest.raises(TrainingError, match="where train step 0 of epoch 0 was due"):
        train_worker(make_work(tmp_path), make_feed(0, 1), StopAfter(NEVER), events)
    with pytest.raises(TrainingError, match="the images ended"):
        train_worker(make_work(tmp_path), iter(()), StopAfter(NEVER), events)


def test_without_validation_the_last_epoch_is_the_model(tmp_path: Path, events: Events) -> None:
    """No validation images: no validation figures, and every epoch replaces the model."""
    work = replace(make_work(tmp_path), validation_rows=0)
    feed = (batch for batch in make_feed() if batch.phase == "train")
    result = train_worker(work, feed, StopAfter(NEVER), events)
    assert (result.best_epoch, result.best_accuracy) == (EPOCHS - 1, None)
    assert all(event["validation_accuracy"] is None for event in events.named("EpochFinished"))


@pytest.mark.parametrize("damage", ["torn", "flipped", "no manifest", "no state"])
def test_a_damaged_checkpoint_is_passed_over_and_named(tmp_path: Path, events: Events, damage: str) -> None:
    """The one before it is used, and the event says which one was rejected and why."""
    work = make_work(tmp_path)
    train(work, events)
    newest, before = sorted(work.checkpoints.iterdir(), reverse=True)
    content = (newest / "state.pt").read_bytes()
    if damage == "torn":
        (newest / "state.pt").write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        (newest / "state.pt").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    else:
        (newest / ("manifest.json" if damage == "no manifest" else "state.pt")).unlink()
    store = CheckpointStore(work.checkpoints)
    loaded = store.newest()

    assert loaded is not None
    assert loaded.name == before.name
    assert [name for name, _ in store.damaged] == [newest.name]
    assert resume_position(work.checkpoints) == loaded.position


def test_weights_that_are_not_finite_are_never_published(tmp_path: Path) -> None:
    """A NaN anywhere in the model refuses the checkpoint."""
    store = CheckpointStore(tmp_path)
    with pytest.raises(TrainingError, match="weights are not finite: w"):
        store.save(Position(0, 1, 1), {"model": {"w": torch.tensor([1.0, math.nan])}})
    assert not list(tmp_path.glob("step-*"))


def test_leftovers_of_a_killed_save_are_never_read(tmp_path: Path) -> None:
    """A folder under a temporary name is not a checkpoint."""
    store = CheckpointStore(tmp_path)
    store.save(Position(0, 1, 1), {"model": {}})
    (tmp_path / ".step-00000009-0000.tmp").mkdir()
    assert store.position() == Position(0, 1, 1)


def test_the_two_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    """Older ones are removed after the new one is complete."""
    store = CheckpointStore(tmp_path)
    for step in range(1, 6):
        store.save(Position(0, step, step), {"model": {}})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000004-0000", "step-00000005-0000"]


def test_a_model_of_two_epochs_is_refused(tmp_path: Path, events: Events) -> None:
    """Weights that are not the ones model.json speaks of are an error."""
    work = make_work(tmp_path)
    train(work, events)
    facts = json.loads((work.model_folder / "model.json").read_bytes())
    (work.model_folder / "model.json").write_text(json.dumps(facts | {"weights_sha256": "0" * 64}))
    with pytest.raises(StorageError, match="another epoch"):
        load_model(work.model_folder)
