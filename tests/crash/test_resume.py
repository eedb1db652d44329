"""Training is killed, after every step and at every system call of a save, and goes on from the newest checkpoint to the same bits."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from conftest import check_tracing
from same_state import state_differences
from tracing import Call, Ended, ForkServer, ForkServers, kill_at, parse_log

from orchestrator.record.journal import read_events
from orchestrator.training.checkpoint import KEPT, CheckpointStore, LoadedCheckpoint

DONE, KILLED = Ended(0, ""), -9
STEPS = 30
"""Of a whole run: three epochs of ten."""
TWO_EPOCHS = "epochs=2"

Taken = dict[tuple[int, int, int], set[str]]
"""What a rank took for a step of an epoch and the loss it found, each time that it did the step."""


@dataclass(frozen=True)
class Trained:
    """What training left."""

    checkpoint: LoadedCheckpoint
    model: bytes
    epochs: dict[int, dict[str, Any]]
    """Losses and accuracies by epoch; of an epoch that was done twice the last ones."""
    taken: Taken


def look(place: Path) -> Trained:
    checkpoint = CheckpointStore(place / "checkpoints").newest()
    assert checkpoint is not None
    taken: Taken = defaultdict(set)
    for path in place.glob("steps-*.jsonl"):
        for line in path.read_text().splitlines():
            step = json.loads(line)
            taken[int(path.stem.removeprefix("steps-")), step["epoch"], step["step"]].add(line)
    keys = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
    epochs = {event["epoch"]: {key: event[key] for key in keys} for event in events(place, "EpochFinished")}
    return Trained(checkpoint, (place / "model" / "weights.safetensors").read_bytes(), epochs, taken)


def events(place: Path, name: str) -> list[dict[str, Any]]:
    return [event for event in read_events(place / "events") if event["event"] == name]


def differences(place: Path, expected: Trained) -> Iterator[str]:
    """What training left that the undisturbed run did not leave; every bit counts."""
    found = look(place)
    if found.checkpoint.position != expected.checkpoint.position:
        yield f"it ended at {found.checkpoint.position}"
    yield from state_differences(found.checkpoint.state, expected.checkpoint.state)
    if found.model != expected.model:
        yield "the model is another one"
    if found.epochs != expected.epochs:
        yield f"the epochs are {found.epochs}, not {expected.epochs}"
    for step in found.taken.keys() | expected.taken.keys():
        if found.taken.get(step) != expected.taken.get(step):
            yield f"other images or losses in rank, epoch, step {step}"


def check(found: Sequence[Sequence[str]]) -> None:
    """Fails with the faults of all points, one line each."""
    faults = [fault for at_point in found for fault in at_point]
    assert not faults, "\n".join(faults)


def samples(place: Path) -> dict[tuple[int, int], dict[int, set[str]]]:
    """Ids of the images of each step of each epoch, by the number of workers that shared them."""
    found: dict[tuple[int, int], dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    for path in place.glob("steps-*.jsonl"):
        for step in map(json.loads, path.read_text().splitlines()):
            found[step["epoch"], step["step"]][step["workers"]].update(step["ids"])
    return found


@pytest.fixture(scope="module", params=[1, 2])
def workers(request: pytest.FixtureRequest) -> str:
    return f"workers={request.param}"


@pytest.fixture(scope="module")
def undisturbed(trainers: ForkServers, workers: str, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    place = tmp_path_factory.mktemp("undisturbed") / "run"
    assert trainers.one().run(place, workers) == DONE
    return look(place)


@pytest.mark.slow
@pytest.mark.parametrize("save", ["step", "epoch"])
def test_killed_after_any_step_and_resumed_gives_the_same_bits(
    trainers: ForkServers, undisturbed: Trained, workers: str, save: str, tmp_path: Path
) -> None:
    """A worker is killed (-9) after each of 30 steps, with a checkpoint from the step before or from the epoch before: weights, averages,
    momentum, losses, and the images of every step in their order are those of the undisturbed run.
    """

    def visit(server: ForkServer, step: int) -> list[str]:
        place = tmp_path / f"{step}"
        words = (workers, f"save={save}")
        killed = server.run(place, *words, f"die={step}")
        faults = [f"ended with {killed}"] * (killed.code != KILLED)
        again = server.run(place, *words)
        faults += [f"then ended with {again}"] * (again != DONE)
        started = [event["resumed_from_step"] for event in events(place, "TrainingStarted")]
        expected = [0, step - 1 if save == "step" else (step - 1) // 10 * 10]
        faults += [f"went on from {started}"] * (started != expected)
        return [f"killed after step {step}: {fault}" for fault in (*faults, *differences(place, undisturbed))]

    assert len(undisturbed.taken) == STEPS * int(workers[-1])
    check(trainers.at_each(range(1, STEPS + 1), visit))


@pytest.mark.parametrize("course", [(1, 2), (2, 1), (2, 1, 2)])
def test_another_number_of_workers_takes_the_same_images(trainers: ForkServers, course: tuple[int, ...], tmp_path: Path) -> None:
    """Killed and continued by more workers or fewer: every step has the images that it would have had, and the record says that the bits
    are other ones.
    """
    assert trainers.one().run(tmp_path / "whole", "workers=1") == DONE
    place = tmp_path / "changed"
    for number, count in enumerate(course, 1):
        last = number == len(course)
        ended = trainers.one().run(place, f"workers={count}", *([] if last else [f"die={13 * number - 8}"]))
        assert ended.code == (0 if last else KILLED)
    expected = {step: by_workers[1] for step, by_workers in samples(tmp_path / "whole").items()}
    assert len(expected) == STEPS
    assert {len(ids) for ids in expected.values()} == {8}
    for step, by_workers in samples(place).items():
        assert expected[step] in by_workers.values()
        assert all(ids <= expected[step] for ids in by_workers.values())  # a group that was killed may have told only half of it
    assert samples(place).keys() == expected.keys()
    changes = [event["changes"] for event in events(place, "ResumedInexactly")]
    assert changes == [[f"workers: {before} before, {after} now"] for before, after in pairwise(course)]


@dataclass(frozen=True)
class Saving:
    """Saves that are watched."""

    start: Path
    """A copy of what they found."""
    words: tuple[str, ...]
    calls: list[Call]
    """The system calls by which they changed checkpoints and the model."""
    whole: Trained
    """What training ends with."""


@pytest.fixture(scope="module", params=["the first save", "later saves"])
def saving(request: pytest.FixtureRequest, trainers: ForkServers, tmp_path_factory: pytest.TempPathFactory) -> Saving:
    """The first save of a run; or two later ones, the first of which finds what a killed one left, and the second the end of an epoch."""
    around = tmp_path_factory.mktemp("saving")
    check_tracing(trainers, around / "tried")
    server, start = trainers.one(), around / "start"
    start.mkdir()
    words: tuple[str, ...] = (TWO_EPOCHS, "die=2")
    if request.param == "later saves":
        words = (TWO_EPOCHS, "die=11")
        assert server.run(start, TWO_EPOCHS, "die=9").code == KILLED
        (start / "checkpoints" / ".step-00000009-0000.tmp").mkdir()
        (start / "checkpoints" / ".step-00000009-0000.tmp" / "state.pt").write_bytes(b"torn")
    assert server.run(around / "whole", TWO_EPOCHS) == DONE
    calls = [traced_calls(server, start, around / name, words) for name in ("first", "second")]
    assert [(call.name, call.nth) for call in calls[0]] == [(call.name, call.nth) for call in calls[1]]
    return Saving(start, words, calls[1], look(around / "whole"))


def traced_calls(server: ForkServer, start: Path, place: Path, words: tuple[str, ...]) -> list[Call]:
    """The calls that change checkpoints and the model; the same each time, so that a call is known by its number."""
    shutil.copytree(start, place)
    log = place.with_suffix(".log")
    server.trace(place, log, words=words)
    return [call for call in parse_log(log.read_text()) if call.changes(place / "checkpoints") or call.changes(place / "model")]


@pytest.mark.slow
def test_killed_at_any_system_call_of_a_save_the_newest_checkpoint_is_used(trainers: ForkServers, saving: Saving, tmp_path: Path) -> None:
    """A save counts from its rename on; before it the one of before counts, and whole it is. Nothing is rejected, later saves clear up
    what this one left, and training ends with the same bits.
    """

    def visit(server: ForkServer, number: int) -> list[str]:
        call, place = saving.calls[number], tmp_path / f"{number}"
        shutil.copytree(saving.start, place)
        killed = server.trace(place, place.with_suffix(".log"), *kill_at(call), words=saving.words)
        faults = [f"ended with {killed}"] * (killed.code != KILLED)
        store = CheckpointStore(place / "checkpoints")
        newest = store.newest()
        expected = newest_after(saving, number)
        faults += [f"{newest and newest.name} is used, not {expected}"] * ((newest and newest.name) != expected)
        faults += [f"rejected: {store.damaged}, {list(store.faults())}"] * bool(store.damaged or list(store.faults()))
        again = server.run(place, TWO_EPOCHS)
        faults += [f"then ended with {again}"] * (again != DONE)
        left = sorted(path.name for path in store.folder.iterdir())
        faults += [f"left: {left}"] * (len(left) != KEPT or any(name.startswith(".") for name in left))
        told = look(place).epochs  # that an epoch has ended is told after its checkpoint is saved
        expecting = replace(saving.whole, epochs=told if told.items() <= saving.whole.epochs.items() else saving.whole.epochs)
        return [f"killed at {call}: {fault}" for fault in (*faults, *differences(place, expecting))]

    check(trainers.at_each(range(len(saving.calls)), visit))


def newest_after(saving: Saving, number: int) -> str | None:
    """The newest checkpoint when a call was not made: from the start, or renamed before."""
    renamed = [call.paths[-1].name for call in saving.calls[:number] if call.name == "rename" and call.paths[-1].name.startswith("step-")]
    there = sorted(path.name for path in saving.start.glob("checkpoints/step-*"))
    return ([*there, *renamed] or [None])[-1]


def test_every_kind_of_call_of_a_save_is_visited(saving: Saving) -> None:
    """The enumeration cannot silently become empty: files are made, written, fsynced and renamed, and folders too."""
    kinds = {call.name for call in saving.calls}
    assert {"mkdir", "openat", "write", "fsync", "rename"} <= kinds
    if "die=11" in saving.words:
        assert {"unlinkat", "rmdir"} & kinds
        assert any(call.changes(call.paths[-1].parents[1] / "model") for call in saving.calls)


def test_content_lasts_before_it_is_named(saving: Saving) -> None:
    """State and manifest, and the folder that names them, are fsynced before the rename that makes them a checkpoint."""
    synced: set[Path] = set()
    renames = 0
    for call in saving.calls:
        if call.name == "fsync":
            synced.add(call.paths[-1])
        if call.name == "rename" and call.paths[-1].name.startswith("step-"):
            renames += 1
            temporary = call.paths[0]
            assert {temporary, temporary / "state.pt", temporary / "manifest.json"} <= synced
    assert renames
