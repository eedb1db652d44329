"""Where the time of an epoch goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

PARTS = ("wait", "compute", "validate", "checkpoint")


@dataclass
class Stopwatch:
    """Adds up seconds by part."""

    started: float = field(default_factory=time.perf_counter)
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))

    @contextmanager
    def measure(self, part: str) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] += time.perf_counter() - begin

    @property
    def elapsed(self) -> float:
        return time.perf_counter() - self.started

    def parts(self) -> dict[str, float]:
        """`{"wait_s": ..., ...}`."""
        return {f"{part}_s": round(self.seconds[part], 3) for part in PARTS}


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
