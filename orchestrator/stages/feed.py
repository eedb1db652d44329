"""What the worker group consumes, in which order: a pure schedule, and the reading of one stretch of it.

A feed is a sequence of micro-batches with consecutive indices. Rank r of N takes the indices r, r+N, r+2N, ... Training
micro-batches follow the epoch order of the data contract; after each epoch come the validation batches, filled up with
empty ones so that every rank receives the same number.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from orchestrator.dataset.manifest import Manifest
from orchestrator.dataset.order import EpochOrder, EvaluationOrder
from orchestrator.dataset.shards import SHARDS, read_rows
from orchestrator.images.augment import augmentation_rng
from orchestrator.images.decode import Content
from orchestrator.images.step import Step
from orchestrator.images.view import View
from orchestrator.plan.values import TrainPlan
from orchestrator.training.batch import Batch, Phase

EVALUATION_SPAN, EVALUATION_BYTES = 8, 2**27
"""Evaluation batches read in one go, and bytes of their pixels, at most: the first of them are waited for while one process reads them."""


@dataclass(frozen=True)
class FeedStart:
    """Where the feed begins: the first step that has not been trained."""

    epoch: int
    step: int


@dataclass(frozen=True)
class Feed:
    """Everything that decides the content and the order of a feed."""

    data: Path
    """The folder of the prepared data."""
    manifest: Manifest
    view: View
    """How stored pictures become images."""
    workers: int
    """Ranks that share the feed."""
    evaluation_rows: int
    """Images in one evaluation batch."""
    seed: int = 0
    window: int = 1
    steps: tuple[Step, ...] = ()
    """The augmentation of training images."""
    train: TrainPlan | None = None
    """Absent when the feed only evaluates `split`."""
    split: str = "validation"
    """The split that is evaluated."""
    start: FeedStart = FeedStart(0, 0)


@dataclass(frozen=True)
class Span:
    """A stretch of a feed that is read in one go: the micro-batches `first` to `stop` of one epoch and phase."""

    index: int
    """Index of the first micro-batch in the feed."""
    phase: Phase
    epoch: int
    first: int
    stop: int


def spans(feed: Feed) -> Iterator[Span]:
    """The whole feed, from `feed.start` on."""
    if feed.train is None:
        yield from _evaluation_spans(feed, Phase.TEST, 0, 0)
        return
    index = 0
    for epoch in range(feed.start.epoch, feed.train.epochs):
        first = feed.start.step * feed.train.micro_batches if epoch == feed.start.epoch else 0
        for span in _training_spans(feed, feed.train, epoch, first, index):
            yield span
            index = span.index + span.stop - span.first
        for span in _evaluation_spans(feed, Phase.VALIDATION, epoch, index):
            yield span
            index = span.index + span.stop - span.first


def _training_spans(feed: Feed, plan: TrainPlan, epoch: int, first: int, index: int) -> Iterator[Span]:
    """One span for each window of shards, so that a window is read once."""
    end = plan.steps_per_epoch * plan.micro_batches
    bounds = epoch_order(feed, epoch).window_bounds()
    cuts = np.unique(np.clip(-(-bounds // plan.micro_batch_rows), first, end))
    for start, stop in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
        yield Span(index + start - first, Phase.TRAIN, epoch, start, stop)


def _evaluation_spans(feed: Feed, phase: Phase, epoch: int, index: int) -> Iterator[Span]:
    batches = evaluation_order(feed).batches
    padded = -(-batches // feed.workers) * feed.workers
    batch_bytes = feed.evaluation_rows * feed.view.size**2 * feed.view.channels
    together = max(1, min(EVALUATION_SPAN, EVALUATION_BYTES // batch_bytes))
    for start in range(0, padded, together):
        yield Span(index + start, phase, epoch, start, min(start + together, padded))


def epoch_order(feed: Feed, epoch: int) -> EpochOrder:
    return EpochOrder(unit_rows(feed.manifest, "train"), seed=feed.seed, epoch=epoch, window=feed.window)


def evaluation_order(feed: Feed) -> EvaluationOrder:
    return EvaluationOrder(unit_rows(feed.manifest, feed.split), feed.evaluation_rows)


def unit_rows(manifest: Manifest, split: str) -> tuple[int, ...]:
    """Rows of each shard of a split, in the order of the manifest."""
    return tuple(shard.rows for shard in manifest.shards if shard.split == split)


def read_span(feed: Feed, span: Span) -> Iterator[Batch]:
    """The micro-batches of one span, decoded, and augmented where the phase is training."""
    split = "train" if span.phase is Phase.TRAIN else feed.split
    shards = _Shards(feed, split)
    places = _training_places(feed, span) if span.phase is Phase.TRAIN else _evaluation_places(feed, span)
    cuts = list(places)
    shards.load([units for units, _ in cuts], [rows for _, rows in cuts])
    for offset, (units, rows) in enumerate(cuts):
        number = span.first + offset
        step = number // feed.train.micro_batches if feed.train is not None and span.phase is Phase.TRAIN else number
        images, labels, ids = shards.decode(units, rows, span.epoch if span.phase is Phase.TRAIN else None)
        yield Batch(span.index + offset, span.phase, span.epoch, step, images, labels, ids)


Places = tuple[NDArray[np.int32], NDArray[np.int64]]
"""For every image of a micro-batch: which shard of the split, and which row of it."""


def _training_places(feed: Feed, span: Span) -> Iterator[Places]:
    assert feed.train is not None  # noqa: S101 -- spans() makes training spans only with a plan
    size = feed.train.micro_batch_rows
    units, rows = epoch_order(feed, span.epoch).rows(span.first * size, span.stop * size)
    for start in range(0, len(rows), size):
        yield units[start : start + size], rows[start : start + size]


def _evaluation_places(feed: Feed, span: Span) -> Iterator[Places]:
    order = evaluation_order(feed)
    for number in range(span.first, span.stop):
        if number < order.batches:
            yield order.rows(number)
        else:
            yield np.empty(0, np.int32), np.empty(0, np.int64)


class Memory:
    """Of the images of micro-batches, taken again when nobody refers to it any more.

    A micro-batch of photographs is larger than what malloc keeps, and the system maps and zeroes fresh memory page by page.
    """

    def __init__(self) -> None:
        self._kept: list[NDArray[np.uint8]] = []

    def take(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """An array of that shape, uint8; what it holds is undefined."""
        size = math.prod(shape)
        for kept in self._kept:
            if len(kept) >= size and sys.getrefcount(kept) == FREE_REFERENCES:
                return kept[:size].reshape(shape)
        fresh = np.empty(size, np.uint8)
        large_enough = [kept for kept in self._kept if len(kept) >= size]
        self._kept = [*large_enough[1 - ARRAYS_KEPT :], fresh]
        return fresh.reshape(shape)


def _free_references() -> int:
    """What is counted of an array in a list that nobody else refers to; it depends on the version of Python."""
    for kept in [np.empty(0)]:
        return sys.getrefcount(kept)
    raise AssertionError


FREE_REFERENCES = _free_references()
ARRAYS_KEPT = 3
"""One that is written, one that Ray copies, one in between."""
MEMORY = Memory()


class _Shards:
    """The stored rows of one span, encoded as they lie on disk; each row group is read once."""

    def __init__(self, feed: Feed, split: str) -> None:
        self._feed = feed
        self._paths = [feed.data / SHARDS / shard.name for shard in feed.manifest.shards if shard.split == split]
        self._rows: dict[int, NDArray[np.int64]] = {}
        self._columns: dict[int, tuple[list[memoryview], NDArray[np.int64], NDArray[np.uint8]]] = {}

    def load(self, units: list[NDArray[np.int32]], rows: list[NDArray[np.int64]]) -> None:
        if not units:
            return
        all_units, all_rows = np.concatenate(units), np.concatenate(rows)
        for unit in np.unique(all_units).tolist():
            wanted = np.sort(all_rows[all_units == unit])
            columns = read_rows(self._paths[unit], wanted)
            self._rows[unit] = wanted
            self._columns[unit] = (columns.images, columns.labels, columns.ids)

    def decode(
        self, units: NDArray[np.int32], rows: NDArray[np.int64], epoch: int | None
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint8]]:
        """Images (M, H, W, C) uint8, labels (M,), ids (M, 16), in the order of `units` and `rows`; augmented where an epoch is given."""
        view, steps, seed = self._feed.view, self._feed.steps, self._feed.seed
        images = MEMORY.take((len(rows), view.size, view.size, view.channels))
        labels = np.empty(len(rows), np.int64)
        ids = np.empty((len(rows), 16), np.uint8)
        for unit in np.unique(units).tolist():
            places = np.flatnonzero(units == unit)
            found = np.searchsorted(self._rows[unit], rows[places])
            stored, stored_labels, stored_ids = self._columns[unit]
            labels[places], ids[places] = stored_labels[found], stored_ids[found]
            for place, row in zip(places.tolist(), found.tolist(), strict=True):
                show_sample(view, steps, seed, stored[row], stored_ids[row].tobytes(), epoch, images[place])
        return images, labels, ids


def show_sample(
    view: View, steps: tuple[Step, ...], seed: int, stored: Content, sample_id: bytes, epoch: int | None, out: NDArray[np.uint8]
) -> None:
    """Write what the model sees of a stored picture in an epoch, or without one as it is evaluated, into `out`.

    Raises:
        DataError: The shard does not hold such a picture.
        TrainingError: A transform of the user's failed.
    """
    if epoch is None:
        view.show(stored, out)
    else:
        view.show_augmented(stored, out, steps, augmentation_rng(seed, epoch, sample_id))
