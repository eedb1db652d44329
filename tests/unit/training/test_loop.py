"""One worker's training: where it stops, how it goes on, and what it refuses."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import EPOCHS, NEVER, QUESTIONS, ROWS, STEPS, Events, StopAfter, assert_same_state, make_feed, make_work, steps_until

from orchestrator.errors import StorageError, TrainingError
from orchestrator.training import loop
from orchestrator.training.batch import Batch
from orchestrator.training.checkpoint import KEPT, START, CheckpointStore, LoadedCheckpoint, Position, resume_position
from orchestrator.training.export import holds_model_of, load_model
from orchestrator.training.loop import train_worker
from orchestrator.training.trainer import FeedMovedError
from orchestrator.training.transfer import Transfer
from orchestrator.training.work import TrainWork, Wish


def train(work: TrainWork, events: Events, stop_after: int = NEVER) -> bool:
    """Train from where the checkpoints stand; True when it was stopped before the end."""
    position = resume_position(work.checkpoints)
    return train_worker(work, make_feed(position.epoch, position.step), StopAfter(stop_after), events).ended_by is Wish.STOP


def final_weights(work: TrainWork) -> dict[str, torch.Tensor]:
    return dict(newest_of(work).state["model"])


def newest_of(work: TrainWork) -> LoadedCheckpoint:
    checkpoint = CheckpointStore(work.checkpoints).newest()
    assert checkpoint is not None
    return checkpoint


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


@pytest.mark.parametrize("question", range(1, QUESTIONS + 1))
def test_stopped_after_any_step_and_resumed_gives_the_same_bits(tmp_path: Path, events: Events, question: int) -> None:
    """Stopped after each step of a run with batch statistics, and in each validation: weights, losses and the best epoch are those of the
    whole run, and the checkpoint is that of the last step.
    """
    whole, parts = make_work(tmp_path / "whole"), make_work(tmp_path / "parts")
    uninterrupted = Events()
    train(whole, uninterrupted)
    stopped, step = train(parts, events, stop_after=question), steps_until(question)
    assert stopped
    assert events.named("TrainingStopped")[0]["global_step"] == step
    assert newest_of(parts).position.global_step == step
    assert not train(parts, events)

    assert_same(final_weights(parts), final_weights(whole))
    assert events.named("TrainingStarted")[-1]["resumed_from_step"] == step
    losses = {event["epoch"]: (event["train_loss"], event["validation_loss"]) for event in events.named("EpochFinished")}
    assert losses == {event["epoch"]: (event["train_loss"], event["validation_loss"]) for event in uninterrupted.named("EpochFinished")}
    best = [event["best_epoch"] for event in (*events.named("TrainingFinished"), *uninterrupted.named("TrainingFinished"))]
    assert len(set(best)) == 1


RECIPE = {"ema": 0.8, "mixup": 0.4, "cutmix": 1.0, "precision": "fp16", "clip_norm": 1.0, "schedule": "one_cycle", "optimizer": "adamw"}
"""Everything that has a state or is random."""


@pytest.mark.parametrize("question", range(1, QUESTIONS + 1))
def test_with_the_whole_recipe_resuming_gives_the_same_bits(tmp_path: Path, events: Events, question: int) -> None:
    """Averaged weights, mixing, scaled loss: stopped after each step or in validation and continued, the whole state is that of the whole
    run.
    """
    whole, parts = make_work(tmp_path / "whole", train=RECIPE), make_work(tmp_path / "parts", train=RECIPE)
    train(whole, Events())
    train(parts, events, stop_after=question)
    torch.manual_seed(question)  # another process would not go on where torch's generator stands
    train(parts, events)
    first, second = (CheckpointStore(work.checkpoints).newest() for work in (whole, parts))
    assert first is not None
    assert second is not None
    assert_same_state(second.state, first.state)
    assert first.state["scaler"]["_growth_tracker"] > 0


def test_the_first_step_is_shown_at_once(tmp_path: Path, events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long before the next report is due a run tells its first step, and a resumed one the first that it takes itself."""
    monkeypatch.setattr(loop, "PROGRESS_EVERY_S", math.inf)
    work = make_work(tmp_path)
    train(work, events, stop_after=2)
    train(work, events, stop_after=1)
    assert [event["global_step"] for event in events.named("Progress")] == [1, 3]


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_sending_micro_batches_ahead_changes_nothing(
    tmp_path: Path, events: Events, monkeypatch: pytest.MonkeyPatch, micro_batches: int
) -> None:
    """As on a GPU, the next micro-batch is asked for before a step has ended: the same bits, stopped and resumed as well."""
    plain, ahead = (make_work(tmp_path / name, micro_batches=micro_batches, train=RECIPE) for name in ("plain", "ahead"))
    train_worker(plain, make_feed(micro_batches=micro_batches), StopAfter(NEVER), Events())
    monkeypatch.setattr(Transfer, "overlaps", True)
    asked: list[tuple[int, int]] = []
    for stop_after in (STEPS + 1, NEVER):
        position = resume_position(ahead.checkpoints)
        feed = make_feed(position.epoch, position.step, micro_batches=micro_batches)
        train_worker(ahead, noted(feed, asked, events), StopAfter(stop_after), events)
    first, second = newest_of(plain), newest_of(ahead)
    assert_same_state(second.state, first.state)
    first_epoch = asked[: STEPS * micro_batches + 1]
    assert first_epoch == [(step, 0) for step in range(STEPS) for _ in range(micro_batches)] + [(0, 0)]
    assert asked[len(first_epoch) + 2 * micro_batches - 1] == (1, 1)


def noted(feed: Iterator[Batch], asked: list[tuple[int, int]], events: Events) -> Iterator[Batch]:
    """Appends the step of each micro-batch that is asked for, and how many epochs had ended."""
    for batch in feed:
        asked.append((batch.step, len(events.named("EpochFinished"))))
        yield batch


def test_a_checkpoint_of_another_version_is_passed_over_and_named(tmp_path: Path, events: Events) -> None:
    """A state that is laid out otherwise is not guessed at; the event says which format it has; it is not damaged."""
    work = make_work(tmp_path)
    train(work, events, stop_after=2)
    (path,) = work.checkpoints.glob("*/manifest.json")
    manifest = json.loads(path.read_bytes())
    assert manifest["versions"]["torch"] == torch.__version__
    path.write_text(json.dumps(manifest | {"format": 1}))
    assert resume_position(work.checkpoints) == START
    assert list(CheckpointStore(work.checkpoints).faults()) == []  # whole, so that nobody is told to delete it
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


def test_more_epochs_train_on_from_the_last_checkpoint(tmp_path: Path, events: Events) -> None:
    """Two epochs and then a third are three epochs, bit for bit, where the learning rate does not depend on the total."""
    steady = {"schedule": "constant", "warmup": 0.0}
    whole, work = make_work(tmp_path / "whole", train=steady), make_work(tmp_path / "raised", train=steady)
    train(whole, Events())
    train(replace(work, plan=replace(work.plan, epochs=EPOCHS - 1)), events)
    train(work, events)
    assert [event["resumed_from_step"] for event in events.named("TrainingStarted")] == [0, STEPS * (EPOCHS - 1)]
    assert_same_state(newest_of(work).state, newest_of(whole).state)
    assert (work.model_folder / "weights.safetensors").read_bytes() == (whole.model_folder / "weights.safetensors").read_bytes()


def test_a_model_that_was_not_written_yet_is_written_from_its_checkpoint(tmp_path: Path, events: Events) -> None:
    """Killed between the checkpoint of an epoch and its model, which an older one stands for or none: the next start writes that model."""
    work = make_work(tmp_path, train={"select": "last"})
    weights = work.model_folder / "weights.safetensors"
    train(work, events, stop_after=STEPS + 2)
    older = [path.read_bytes() for path in (weights, work.model_folder / "model.json")]
    train(work, events)
    written = weights.read_bytes()
    assert written != older[0]
    weights.write_bytes(older[0])
    (work.model_folder / "model.json").write_bytes(older[1])
    train(work, events)
    assert weights.read_bytes() == written
    shutil.rmtree(work.model_folder)
    train(work, events)
    assert weights.read_bytes() == written


@pytest.mark.parametrize("left", ["none", "of another epoch", "torn"])
def test_a_best_model_that_is_gone_is_not_spoken_of(tmp_path: Path, events: Events, left: str) -> None:
    """The model of the best epoch is not there and cannot be made again: the best of the epochs to come is, and the record names it."""
    work = make_work(tmp_path)
    train(work, events, stop_after=STEPS + 2)
    position = newest_of(work).position
    rewrite(work.checkpoints / newest_of(work).name, lambda state: state.update(best_accuracy=2.0))  # nothing is better
    facts = work.model_folder / "model.json"
    if left == "none":
        facts.unlink()
    elif left == "torn":
        tear(work.model_folder / "weights.safetensors")
    else:
        facts.write_text(json.dumps(json.loads(facts.read_bytes()) | {"epoch": 1}))
    result = train_worker(work, make_feed(position.epoch, position.step), StopAfter(NEVER), events)
    assert result.best_epoch > 0
    assert holds_model_of(work.model_folder, result.best_epoch)
    load_model(work.model_folder)
    (lost,) = events.named("BestModelLost")
    assert (lost["epoch"], lost["counted_from"]) == (0, 1)


def test_a_best_model_that_is_gone_after_the_last_epoch_is_the_last_one(tmp_path: Path, events: Events) -> None:
    """No epoch is to come that could be the best: what was trained last is written, and the record names it."""
    work = make_work(tmp_path)
    train(work, events)
    rewrite(work.checkpoints / newest_of(work).name, lambda state: state.update(best_accuracy=2.0, best_epoch=0))
    shutil.rmtree(work.model_folder)
    result = train_worker(work, iter(()), StopAfter(NEVER), events)
    assert result.best_epoch == EPOCHS - 1
    assert holds_model_of(work.model_folder, EPOCHS - 1)
    assert not holds_model_of(work.model_folder, 0)
    assert events.named("BestModelLost")[0]["counted_from"] == EPOCHS - 1


def test_a_loss_that_is_not_finite_stops_with_its_place(tmp_path: Path, events: Events) -> None:
    """The error names step, epoch and the checkpoint from before; nothing broken is saved."""
    work = make_work(tmp_path, train={"lr": 1e30, "warmup": 0.0})
    with pytest.raises(TrainingError, match=r"not finite on rank 0 after step \d+ of epoch 1") as raised:
        train(work, events)
    assert "train.lr" in raised.value.next_step
    assert resume_position(work.checkpoints) == START


def test_a_feed_out_of_order_is_refused(tmp_path: Path, events: Events) -> None:
    """A micro-batch of another step never trains anything, and a feed that ends early is named."""
    with pytest.raises(FeedMovedError, match="where train step 0 of epoch 0 was due"):
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


def tear(place: Path) -> None:
    content = place.read_bytes()
    place.write_bytes(content[: len(content) // 2])


def flip(place: Path, at: int = -1) -> None:
    """Turn one bit of a byte over."""
    content = bytearray(place.read_bytes())
    content[at] ^= 1
    place.write_bytes(content)


def rewrite(checkpoint: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the state of a checkpoint, under a hash that is right."""
    state = torch.load(checkpoint / "state.pt", weights_only=True)
    change(state)
    torch.save(state, checkpoint / "state.pt")
    manifest = json.loads((checkpoint / "manifest.json").read_bytes())
    manifest["files"]["state.pt"] = hashlib.sha256((checkpoint / "state.pt").read_bytes()).hexdigest()
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))


def swap(first: Path, second: Path) -> None:
    aside = first.with_name("aside")
    first.rename(aside)
    second.rename(first)
    aside.rename(second)


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "torn state": (lambda newest: tear(newest / "state.pt"), "hash of state.pt is wrong"),
    "torn manifest": (lambda newest: tear(newest / "manifest.json"), "JSONDecodeError"),
    "flipped state": (lambda newest: flip(newest / "state.pt"), "hash of state.pt is wrong"),
    "flipped manifest": (lambda newest: flip(newest / "manifest.json"), "JSONDecodeError"),
    "no state": (lambda newest: (newest / "state.pt").unlink(), "No such file"),
    "no manifest": (lambda newest: (newest / "manifest.json").unlink(), "No such file"),
    "NaN weight": (lambda newest: rewrite(newest, spoil("model")), "the weights are not finite: fc.bias"),
    "infinite average": (lambda newest: rewrite(newest, spoil("average")), "the averaged weights are not finite: fc.bias"),
    "NaN momentum": (lambda newest: rewrite(newest, spoil_momentum), "the sums of the optimizer are not finite: momentum_buffer of 0"),
    "no position": (lambda newest: rewrite(newest, lose_position), "KeyError"),
}
"""What happens to the newest checkpoint, and what is said of it."""


def spoil(part: str) -> Callable[[dict[str, Any]], None]:
    def change(state: dict[str, Any]) -> None:
        state[part]["fc.bias"][0] = math.nan if part == "model" else math.inf

    return change


def spoil_momentum(state: dict[str, Any]) -> None:
    state["optimizer"]["state"][0]["momentum_buffer"][0] = math.nan


def lose_position(state: dict[str, Any]) -> None:
    del state["position"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_passed_over_and_named(tmp_path: Path, events: Events, damage: str) -> None:
    """Torn, flipped, incomplete, or not finite under a right hash: training goes on from the one before, says which one was rejected and
    why, and ends with the bits of the undamaged run.
    """
    work, whole = (make_work(tmp_path / name, train={"ema": 0.8, "checkpoint_s": 1e-9}) for name in ("damaged", "whole"))
    train(whole, Events())
    train(work, events, stop_after=STEPS + 2)
    newest, before = sorted(work.checkpoints.iterdir(), reverse=True)
    harm, reason = DAMAGES[damage]
    harm(newest)
    train(work, events)

    (rejected,) = events.named("CheckpointRejected")
    assert rejected["name"] == newest.name
    assert reason in rejected["reason"]
    assert f"step-{events.named('TrainingStarted')[-1]['resumed_from_step']:08d}" in before.name
    assert_same_state(newest_of(work).state, newest_of(whole).state)


def test_checkpoints_whose_states_were_swapped_are_both_passed_over(tmp_path: Path, events: Events) -> None:
    """Each state belongs to its own manifest; the one before them is used. Whole folders under each other's names are still whole."""
    work = make_work(tmp_path, train={"checkpoint_s": 1e-9})
    train(work, events, stop_after=2)
    (oldest, *_) = sorted(work.checkpoints.iterdir())
    shutil.copytree(oldest, tmp_path / "kept")
    train(work, events, stop_after=2)
    newest, middle = sorted(work.checkpoints.iterdir(), reverse=True)
    (tmp_path / "kept").rename(oldest)
    swap(newest / "state.pt", middle / "state.pt")
    store = CheckpointStore(work.checkpoints)
    assert store.position() == Position(0, 1, 1)
    assert [name for name, _ in store.damaged] == [newest.name, middle.name]

    swap(newest / "state.pt", middle / "state.pt")
    swap(newest, middle)
    assert store.position() == Position(0, 3, 3)
    assert store.damaged == []


def test_no_flipped_bit_of_a_manifest_moves_training(tmp_path: Path, events: Events) -> None:
    """Any byte: the checkpoint is passed over, or it is the same position and state; never a guess."""
    work = make_work(tmp_path)
    train(work, events, stop_after=2)
    whole = newest_of(work)
    manifest = work.checkpoints / whole.name / "manifest.json"
    content, used = manifest.read_bytes(), 0
    for place in range(len(content)):
        flip(manifest, place)
        found = CheckpointStore(work.checkpoints).newest()
        manifest.write_bytes(content)
        if found is not None:
            used += 1
            assert found.position == whole.position
            assert_same_state(found.state, whole.state)
    assert 0 < used < len(content) / 2  # what names the versions decides nothing


def test_what_was_passed_over_does_not_crowd_out_new_checkpoints(tmp_path: Path, events: Events) -> None:
    """With nothing but damaged checkpoints training starts anew, and what it saves stays, although their numbers are higher."""
    work = make_work(tmp_path, train={"checkpoint_s": 1e-9})
    train(work, events, stop_after=STEPS + 2)
    for path in work.checkpoints.glob("*/state.pt"):
        tear(path)
    train(work, events, stop_after=3)
    assert resume_position(work.checkpoints) == Position(0, 3, 3)
    train(work, events, stop_after=STEPS)
    assert len(list(work.checkpoints.iterdir())) == KEPT


def test_what_has_changed_since_a_checkpoint_is_said_in_one_event(tmp_path: Path, events: Events) -> None:
    """Another torch continues it, and the record says that the bits will be other ones; the same torch says nothing."""
    work = make_work(tmp_path)
    train(work, events, stop_after=2)
    train(work, events, stop_after=1)
    assert not events.named("ResumedInexactly")
    path = work.checkpoints / newest_of(work).name / "manifest.json"
    manifest = json.loads(path.read_bytes())
    path.write_text(json.dumps(manifest | {"versions": manifest["versions"] | {"torch": "1.0.0"}}))
    train(work, events, stop_after=1)
    (said,) = events.named("ResumedInexactly")
    assert said["changes"] == [f"torch: 1.0.0 before, {torch.__version__} now"]
    assert events.named("TrainingStarted")[-1]["resumed_from_step"] == 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"precision": "fp32"}, "precision: bf16 before, fp32 now"),
        ({"device": "cpu"}, "device: cuda before, cpu now"),
        ({"threads": None}, "threads: 99 before, {} now"),
        ({"images in a micro-batch": ROWS}, f"images in a micro-batch: 1 before, {ROWS} now"),
        ({"workers": 1}, "workers: 2 before, 1 now"),
    ],
)
def test_other_conditions_are_said(tmp_path: Path, events: Events, change: dict[str, Any], said: str) -> None:
    """Whatever decides about the bits of a step and is not in the job file: precision, device, threads, micro-batches, workers."""
    work = make_work(tmp_path)
    train(work, events, stop_after=2)
    ((name, now),) = change.items()
    now = now or torch.get_num_threads()
    before = {"precision": "bf16", "device": "cuda", "threads": 99, "images in a micro-batch": 1, "workers": 2}[name]
    assert newest_of(work).state["conditions"][name] == now
    rewrite(work.checkpoints / newest_of(work).name, lambda state: state["conditions"].update({name: before}))
    train(work, events, stop_after=1)
    assert events.named("ResumedInexactly")[0]["changes"] == [said.format(now)]


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
