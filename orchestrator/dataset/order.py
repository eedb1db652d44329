"""The order in which rows are read: a pure function of seed, epoch and manifest.

Units are permuted; the rows of every few consecutive units, a window, are permuted among themselves; the windows one after
the other are the epoch. Reading needs one window in memory and no other state, so it can start at any position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Places = tuple[NDArray[np.int32], NDArray[np.int64]]
"""For each row: the unit it lies in, and its number there."""


@dataclass(frozen=True)
class EpochOrder:
    """The order of one epoch of training."""

    unit_rows: tuple[int, ...]
    """Rows of each unit."""
    seed: int
    epoch: int
    window: int
    """Units whose rows are mixed with one another."""

    def window_bounds(self) -> NDArray[np.int64]:
        """Positions in the epoch at which the windows begin, and the end of the last one."""
        sizes = np.array(self.unit_rows, np.int64)[self._unit_order()]
        starts = np.arange(0, len(sizes), self.window)
        return np.concatenate([[0], np.cumsum(np.add.reduceat(sizes, starts))]) if len(sizes) else np.zeros(1, np.int64)

    def rows(self, start: int, stop: int) -> Places:
        """The rows at the positions `start` to `stop` of the epoch."""
        bounds = self.window_bounds()
        first, last = np.searchsorted(bounds, [start, stop - 1], side="right") - 1
        windows = [self._window(int(number)) for number in range(first, last + 1)] if stop > start else []
        units = np.concatenate([window[0] for window in windows] or [np.empty(0, np.int32)])
        rows = np.concatenate([window[1] for window in windows] or [np.empty(0, np.int64)])
        offset = int(bounds[first]) if windows else 0
        return units[start - offset : stop - offset], rows[start - offset : stop - offset]

    def _unit_order(self) -> NDArray[np.int64]:
        return np.random.default_rng((self.seed, self.epoch, 0)).permutation(len(self.unit_rows))

    def _window(self, number: int) -> Places:
        """All rows of a window, permuted."""
        members = self._unit_order()[number * self.window : (number + 1) * self.window]
        sizes = [self.unit_rows[unit] for unit in members]
        units = np.repeat(members.astype(np.int32), sizes)
        rows = np.concatenate([np.arange(size, dtype=np.int64) for size in sizes])
        order = np.random.default_rng((self.seed, self.epoch, 1, number)).permutation(len(rows))
        return units[order], rows[order]


@dataclass(frozen=True)
class EvaluationOrder:
    """All rows once, unit after unit, in batches; the last batch may be smaller."""

    unit_rows: Sequence[int]
    batch_rows: int

    @property
    def batches(self) -> int:
        return -(-sum(self.unit_rows) // self.batch_rows)

    def rows(self, batch: int) -> Places:
        """The rows of one batch."""
        bounds = np.concatenate([[0], np.cumsum(np.array(self.unit_rows, np.int64))])
        positions = np.arange(batch * self.batch_rows, min((batch + 1) * self.batch_rows, int(bounds[-1])), dtype=np.int64)
        units = (np.searchsorted(bounds, positions, side="right") - 1).astype(np.int32)
        return units, positions - bounds[units]
