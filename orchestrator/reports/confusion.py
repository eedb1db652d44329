"""What was taken for what: the confusion matrix as shaded cells, or its largest entries where there are many classes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from orchestrator.reports.values import MetricsReport

MOST_CLASSES_IN_MATRIX = 40
MOST_CONFUSIONS = 20
DARK = 0.55
"""A cell shaded more than this carries light text."""


@dataclass(frozen=True)
class Cell:
    """One count of the matrix."""

    count: int
    share: float
    """Of the images of the true class."""
    shade: float
    """0 to 1; errors are shaded by the root of their share, so that rare ones can be seen."""
    is_hit: bool

    @property
    def is_dark(self) -> bool:
        return self.shade > DARK


@dataclass(frozen=True)
class MatrixRow:
    """The images of one true class."""

    name: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Confusion:
    """One entry off the diagonal."""

    truth: str
    predicted: str
    count: int
    share: float
    """Of the images of the true class."""


def matrix_rows(metrics: MetricsReport) -> tuple[MatrixRow, ...]:
    """Empty when there are too many classes to read, or no matrix."""
    if len(metrics.confusion) > MOST_CLASSES_IN_MATRIX:
        return ()
    names = _names(metrics)
    return tuple(
        MatrixRow(names[truth], tuple(_cell(count, sum(row), is_hit=truth == place) for place, count in enumerate(row)))
        for truth, row in enumerate(metrics.confusion)
    )


def top_confusions(metrics: MetricsReport) -> tuple[Confusion, ...]:
    """The most frequent mistakes, most frequent first."""
    names = _names(metrics)
    found = [
        Confusion(names[truth], names[predicted], count, count / sum(row))
        for truth, row in enumerate(metrics.confusion)
        for predicted, count in enumerate(row)
        if count and truth != predicted
    ]
    return tuple(sorted(found, key=lambda confusion: -confusion.count)[:MOST_CONFUSIONS])


def _names(metrics: MetricsReport) -> list[str]:
    known = [entry.name for entry in metrics.per_class]
    return known + [f"class {place}" for place in range(len(known), len(metrics.confusion))]


def _cell(count: int, total: int, *, is_hit: bool) -> Cell:
    share = count / total if total else 0.0
    return Cell(count, share, share if is_hit else math.sqrt(share), is_hit)
