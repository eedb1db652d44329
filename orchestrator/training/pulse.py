"""What a worker does at this moment, for somebody outside who watches whether it still does anything."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

START, BETWEEN = "start", "between steps"
STEPS_REMEMBERED = 101


class Pulse:
    """Kept up to date by the thread that works, for next to nothing; read by another thread.

    Attributes:
        doing: `start`, a part of a `Stopwatch`, or what else the work calls its parts.
        changes: Grows whenever `doing` is said anew: while it stays, nothing gets done.
        epoch: Of the current step.
        step: The current one inside its epoch; the last one after its end.
        validates: The steps of the epoch are over, and images for validation are looked at.
    """

    def __init__(self) -> None:
        self.doing, self.changes, self.epoch, self.step, self.validates = START, 0, 0, 0, False
        self._step_s: deque[float] = deque(maxlen=STEPS_REMEMBERED)

    def note(self, doing: str | None) -> None:
        """From now on the worker does this, or nothing that has a name."""
        self.doing = doing or BETWEEN
        self.changes += 1

    @contextmanager
    def stepping(self, epoch: int, step: int) -> Iterator[None]:
        """One step; how long steps take tells when one takes too long."""
        self.epoch, self.step, begin = epoch, step, time.perf_counter()
        yield
        self._step_s.append(time.perf_counter() - begin)

    @contextmanager
    def validating(self, epoch: int) -> Iterator[None]:
        """An error leaves it as it is: whoever tells of it can tell where it happened."""
        self.epoch, self.validates = epoch, True
        yield
        self.validates = False

    @property
    def usual_step_s(self) -> float:
        """Median of the last steps, 0 before two have ended: in the second one workers wait for each other where they never do again."""
        steps = list(self._step_s)
        return median(steps) if len(steps) > 1 else 0.0
