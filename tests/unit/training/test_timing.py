"""Where the time of a step goes: every second counts once, to the part that had it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from conftest import EPOCHS, NEVER, STEPS, Events, StopAfter, make_feed, make_work
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.training import loop, trainer, transfer
from orchestrator.training.batch import Batch
from orchestrator.training.loop import train_worker
from orchestrator.training.timing import PARTS, STEP_PARTS, Clock, Stopwatch, clock_of, shares


@dataclass
class HandClock:
    """A clock that is moved by hand."""

    now: float = 0.0

    def stamp(self) -> float:
        return self.now

    def seconds(self, begin: float, end: float) -> float | None:
        return end - begin

    def settle(self, stamp: float) -> None:
        """Nothing to wait for."""


@dataclass
class LateClock(HandClock):
    """A device that has reached `done` of the moments that were stamped; waiting for one brings it there."""

    done: float = 0.0
    waited_for: list[float] = field(default_factory=list)

    def seconds(self, begin: float, end: float) -> float | None:
        return end - begin if end <= self.done else None

    def settle(self, stamp: float) -> None:
        self.waited_for.append(stamp)
        self.done = max(self.done, stamp)


def pass_time(clock: HandClock, watch: Stopwatch, part: str, seconds: float) -> None:
    with watch.measure(part):
        clock.now += seconds


def test_time_counts_to_its_part_and_to_none_outside() -> None:
    """Two seconds of waiting and three of computing are that, whatever passed between them."""
    clock = HandClock()
    watch = Stopwatch(clock)
    pass_time(clock, watch, "wait", 2)
    clock.now += 100
    pass_time(clock, watch, "compute", 3)
    assert watch.parts() == {f"{part}_s": {"wait": 2, "compute": 3}.get(part, 0) for part in PARTS}


def test_a_part_inside_another_counts_once() -> None:
    """What a switch in the middle takes away from computing is synchronising, and afterwards it is computing again."""
    clock = HandClock()
    watch = Stopwatch(clock)
    with watch.measure("compute"):
        clock.now += 5
        watch.switch("sync")
        clock.now += 2
        watch.switch("compute")
        clock.now += 1
    assert (watch.seconds()["compute"], watch.seconds()["sync"]) == (6, 2)
    assert watch.switch(None) is None


def test_an_error_ends_its_part() -> None:
    """Time after a failed step belongs to nobody."""
    clock = HandClock()
    watch = Stopwatch(clock)
    with suppress(ValueError), watch.measure("compute"):
        clock.now += 1
        watch.switch("sync")
        raise ValueError
    clock.now += 9
    assert sum(watch.seconds().values()) == 1


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from([*PARTS, None]), st.integers(0, 1000)), max_size=30))
def test_parts_never_exceed_the_time_that_passed(laps: list[tuple[str | None, int]]) -> None:
    """In whatever order parts follow one another, together they are the time in which a part was measured."""
    clock = HandClock()
    watch = Stopwatch(clock)
    for part, seconds in laps:
        watch.switch(part)
        clock.now += seconds
    watch.switch(None)
    assert sum(watch.seconds().values()) == sum(seconds for part, seconds in laps if part is not None) <= clock.now


def test_what_the_device_has_not_done_yet_counts_later_and_nobody_waits_for_it() -> None:
    """Readings in between never wait; the reading at the end of an epoch waits once, for the last stamp."""
    clock = LateClock()
    watch = Stopwatch(clock)
    pass_time(clock, watch, "transfer", 2)
    pass_time(clock, watch, "compute", 3)
    assert sum(watch.seconds().values()) == 0
    clock.done = 2
    assert (watch.seconds()["transfer"], watch.seconds()["compute"]) == (2, 0)
    assert clock.waited_for == []
    assert watch.parts()["compute_s"] == 3
    assert clock.waited_for == [5]


def test_shares_are_those_of_the_time_between_two_readings() -> None:
    """Half of ten seconds in the feed is a share of 0.5; validation is no part of a step."""
    before = dict.fromkeys(PARTS, 7.0)
    assert shares(before, before | {"wait": 12.0}, 10.0) == {f"{part}_share": 0.5 if part == "wait" else 0.0 for part in STEP_PARTS}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> HandClock:
    """The clock of a worker, which only the test moves."""
    hand = HandClock()

    def clock_of(_: object) -> Clock:
        return hand

    monkeypatch.setattr(trainer, "clock_of", clock_of)
    monkeypatch.setattr(loop, "PROGRESS_EVERY_S", 0.0)
    return hand


def slow_feed(clock: HandClock, seconds: float) -> Iterator[Batch]:
    for batch in make_feed():
        clock.now += seconds
        yield batch


def test_a_slow_feed_is_waiting_and_nothing_else(tmp_path: Path, events: Events, clock: HandClock) -> None:
    """A feed that takes two seconds for each of four training and one validation batch: ten seconds of waiting an epoch."""
    train_worker(make_work(tmp_path), slow_feed(clock, 2.0), StopAfter(NEVER), events)
    for epoch in events.named("EpochFinished"):
        assert {part: epoch[f"{part}_s"] for part in PARTS} == dict.fromkeys(PARTS, 0.0) | {"wait": 2.0 * (STEPS + 1)}
    assert len(events.named("EpochFinished")) == EPOCHS


@pytest.mark.parametrize(
    ("room", "name", "part", "times"),
    [
        (transfer, "to_device", "transfer", 2 * STEPS),
        (loop, "all_reduce_max", "sync", STEPS),
        (trainer.functional, "cross_entropy", "compute", STEPS),
    ],
)
def test_each_call_of_a_step_counts_to_its_part(
    tmp_path: Path, events: Events, clock: HandClock, monkeypatch: pytest.MonkeyPatch, room: object, name: str, part: str, times: int
) -> None:
    """Copies are transfer, the agreement after a step is synchronising, the loss is computing; what validation does is validation,
    agreement included.
    """
    original = getattr(room, name)

    def slow(*arguments: object, **options: object) -> object:
        clock.now += 1
        return original(*arguments, **options)

    monkeypatch.setattr(room, name, slow)
    train_worker(make_work(tmp_path), make_feed(), StopAfter(NEVER), events)
    for epoch in events.named("EpochFinished"):
        in_validation = {"to_device": 2.0, "cross_entropy": 1.0, "all_reduce_max": 1.0}[name]
        assert {kind: epoch[f"{kind}_s"] for kind in PARTS} == dict.fromkeys(PARTS, 0.0) | {part: times, "validate": in_validation}


def test_progress_tells_every_part_of_a_step(tmp_path: Path, events: Events, clock: HandClock) -> None:
    """Each event of progress has a share for every part."""
    train_worker(make_work(tmp_path), make_feed(), StopAfter(NEVER), events)
    assert events.named("Progress")
    for event in events.named("Progress"):
        assert {key.removesuffix("_share") for key in event if key.endswith("_share")} == set(STEP_PARTS)


def test_real_clocks_add_up_to_no_more_than_the_epoch(tmp_path: Path, events: Events) -> None:
    """Measured for real, the parts of an epoch are at most its seconds, rounding apart, and computing takes some."""
    train_worker(make_work(tmp_path), make_feed(), StopAfter(NEVER), events)
    for epoch in events.named("EpochFinished"):
        assert sum(epoch[f"{part}_s"] for part in PARTS) <= epoch["seconds"] + 0.001 * len(PARTS)
        assert epoch["compute_s"] > 0


@pytest.mark.gpu
def test_on_a_gpu_waiting_counts_only_while_the_gpu_is_idle() -> None:
    """What is asked of the GPU is measured without waiting for it, and while it works the feed may take its time."""
    device = torch.device("cuda")
    matrix = torch.randn(4096, 4096, device=device)
    torch.cuda.synchronize()
    watch = Stopwatch(clock_of(device))
    with watch.measure("compute"):
        for _ in range(50):
            matrix = torch.nn.functional.normalize(matrix @ matrix)
        asked = watch.elapsed
    with watch.measure("wait"):
        pass
    parts = watch.parts()
    assert parts["compute_s"] > asked
    assert parts["wait_s"] < parts["compute_s"]
    assert sum(parts.values()) <= watch.elapsed + 0.001 * len(PARTS)
