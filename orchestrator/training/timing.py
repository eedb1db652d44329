"""Where the time of an epoch goes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch

STEP_PARTS = ("wait", "transfer", "compute", "sync", "checkpoint")
"""What a training step may be doing."""
PARTS = (*STEP_PARTS, "validate")
LAPS_KEPT = 1000
"""Stamps are small, but a worker whose seconds nobody asks for takes them all day."""


class Clock(Protocol):
    """Takes stamps, and tells later how far they lie apart."""

    def stamp(self) -> Any:
        """This moment."""

    def seconds(self, begin: Any, end: Any) -> float | None:
        """Time between two stamps; `None` while the second one still lies in the future."""

    def settle(self, stamp: Any) -> None:
        """Wait until the moment of a stamp has come."""


class HostClock:
    """The clock of this process: what is computed on a CPU is done when the call returns."""

    def stamp(self) -> float:
        return time.perf_counter()

    def seconds(self, begin: float, end: float) -> float:
        return end - begin

    def settle(self, stamp: float) -> None:
        """A stamp is never in the future."""


class CudaClock:
    """The timeline of the current CUDA stream, by events that are read later: taking a stamp waits for nothing.

    A call returns long before the GPU has done what it asks for, so a stamp is the moment at which the GPU reaches it. While the GPU
    has nothing to do that is at once; waiting for images while the GPU still computes therefore does not count as waiting.
    """

    def stamp(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def seconds(self, begin: torch.cuda.Event, end: torch.cuda.Event) -> float | None:
        return begin.elapsed_time(end) / 1000 if end.query() else None  # type: ignore[no-untyped-call]

    def settle(self, stamp: torch.cuda.Event) -> None:
        stamp.synchronize()


def clock_of(device: torch.device) -> Clock:
    """The clock that what happens on a device is measured by."""
    return CudaClock() if device.type == "cuda" else HostClock()


class Stopwatch:
    """Adds up seconds by part. At any moment at most one part is measured, so together they never exceed the time that has passed.

    * `wait`: in the feed, for the next micro-batch, of training or validation, to be handed over;
    * `transfer`: copying training images and labels into memory of the worker's own, and from there to the device;
    * `compute`: forward, backward and optimiser step, and whatever of the exchange of gradients is hidden behind backward;
    * `sync`: from the last gradient of a step to the end of its exchange with the other workers, which contains waiting for
      workers that are slower, and the agreement after the step on whether to stop or to save. What DDP exchanges in the first
      steps to sort its buckets counts as computing, and the averaging and comparing at the end of an epoch to no part;
    * `checkpoint`: gathering the state of all workers and writing it;
    * `validate`: everything about the validation images but waiting for them.

    On CUDA the parts are those of the GPU's timeline (`CudaClock`): of waiting and copying only what the GPU had to wait for.

    Args:
        clock: Takes the stamps.
        note: Called with every part that begins.
    """

    def __init__(self, clock: Clock, note: Callable[[str | None], object] = lambda _: None) -> None:
        self._clock, self._note = clock, note
        self._started = time.perf_counter()
        self._part: str | None = None
        self._begin = clock.stamp()
        self._laps: deque[tuple[str, Any, Any]] = deque()
        self._seconds = dict.fromkeys(PARTS, 0.0)

    def switch(self, part: str | None) -> str | None:
        """From now on time counts to `part`, or to none.

        Returns:
            What it counted to before.
        """
        now = self._clock.stamp()
        before = self._part
        if before is not None:
            self._laps.append((before, self._begin, now))
            if len(self._laps) > LAPS_KEPT:
                self.seconds()
        self._part, self._begin = part, now
        self._note(part)
        return before

    @contextmanager
    def measure(self, part: str) -> Iterator[None]:
        """Time inside counts to `part`, and to nothing else."""
        before = self.switch(part)
        try:
            yield
        finally:
            self.switch(before)

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self._started

    def seconds(self) -> dict[str, float]:
        """Seconds by part, of all that has been left and is over on the device as well."""
        while self._laps and (lap := self._clock.seconds(*self._laps[0][1:])) is not None:
            self._seconds[self._laps.popleft()[0]] += lap
        return dict(self._seconds)

    def parts(self) -> dict[str, float]:
        """`{"wait_s": ..., ...}` of all that has been left."""
        self._clock.settle(self._begin)
        return {f"{part}_s": round(seconds, 3) for part, seconds in self.seconds().items()}


def shares(before: dict[str, float], after: dict[str, float], elapsed: float) -> dict[str, float]:
    """`{"wait_share": ..., ...}`: how much of `elapsed` seconds between two readings went into each part of a step."""
    return {f"{part}_share": round((after[part] - before[part]) / elapsed, 4) for part in STEP_PARTS}


@dataclass
class Sums:
    """Loss and hits of one worker, added up over images."""

    loss: float = 0.0
    correct: float = 0.0
    rows: float = 0.0

    def add(self, loss: float, correct: float, rows: float) -> None:
        self.loss += loss
        self.correct += correct
        self.rows += rows

    def values(self) -> list[float]:
        return [self.loss, self.correct, self.rows]
