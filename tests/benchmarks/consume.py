"""The consumer that everything is compared by: takes micro-batches as they come, computes nothing, and watches the clock.

Imports numpy and the standard library, so that it runs in the environment of every loader. A course is one epoch to warm up,
some that are timed, and some more. So what is timed begins and ends in the middle of the work: what was read ahead before it
makes up for what is read ahead after it, as long as there is enough to read ahead. Memory is measured in the last epoch, because that
takes time itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from processes import MemoryWatch, cpu_between, cpu_seconds

PAGE = 4096
LEFT_MIN = 0.2
"""Share of the epochs after them that must not have been read when the timed ones end."""


@dataclass(frozen=True)
class Course:
    """How much is consumed."""

    epoch_batches: int
    epochs: int
    """That are timed."""
    after: int
    """Epochs between those and the one in which memory is measured; none for what does not read beyond an epoch."""

    @property
    def all_epochs(self) -> int:
        return 1 + self.epochs + self.after + 1


@dataclass(frozen=True)
class Consumed:
    """What it took."""

    first_batch_s: float
    """From the request to the first micro-batch."""
    images: int
    seconds: float
    """That `images` took, the timed ones."""
    cpu_s: dict[str, float]
    """In the same time, by the part of the run."""
    whole_images: int
    whole_s: float
    """From the request to the end of the timed ones."""
    peak_bytes: int
    """Of all processes, without the object store and other shared memory."""


def consume(batches: Iterator[NDArray[np.uint8]], course: Course, root: int) -> Consumed:
    """Consume a course of (M, H, W, C) uint8.

    Args:
        batches: Nothing is read before the first one is asked for.
        course: How much.
        root: The process that started all others of the run.

    Raises:
        ValueError: So much was read ahead that the timed epochs were partly read before.
    """
    requested = time.perf_counter()
    warm = _take(batches, 1)
    first_batch_s = time.perf_counter() - requested
    warm += _take(batches, course.epoch_batches - 1)
    before, started = cpu_seconds(root), time.perf_counter()
    timed = _take(batches, course.epoch_batches * course.epochs)
    ended = time.perf_counter()
    used = cpu_between(before, cpu_seconds(root))
    after = _take(batches, course.epoch_batches * course.after)
    left = (time.perf_counter() - ended) / (ended - started) * timed
    if left < LEFT_MIN * after:
        read = f"{1 - left / after:.0%} of the {course.after} epochs after the timed ones"
        raise ValueError(f"{read} were read before those ended, which were partly read before they began; let there be more")
    with MemoryWatch(root) as watch:
        _take(batches, course.epoch_batches)
    return Consumed(
        first_batch_s=first_batch_s,
        images=timed,
        seconds=ended - started,
        cpu_s={role.value: seconds for role, seconds in used.items()},
        whole_images=warm + timed,
        whole_s=ended - requested,
        peak_bytes=watch.peak_bytes,
    )


def _take(batches: Iterator[NDArray[np.uint8]], count: int) -> int:
    """Images in the next micro-batches. Every page is touched, as a copy to the device would do it."""
    images = 0
    for _ in range(count):
        batch: NDArray[Any] = next(batches)
        assert batch.dtype == np.uint8
        batch.reshape(-1)[::PAGE].max()
        images += len(batch)
    return images
