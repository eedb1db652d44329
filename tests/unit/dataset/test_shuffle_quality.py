"""How well an epoch is shuffled although it reads a few shards at a time: measured against a perfect permutation."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from orchestrator.dataset.listing import make_table, sample_id
from orchestrator.dataset.order import EpochOrder
from orchestrator.dataset.units import lay_out, units_of
from orchestrator.spec.train import TrainSpec

CLASSES, PER_CLASS = 10, 5_000
IMAGES = CLASSES * PER_CLASS
SHARD_ROWS = 445
"""What `auto` makes of 224 x 224 pixels in colour."""
PERFECT_RUN = 1 / (1 - 1 / CLASSES)
"""Mean length of a run of one label where every image is drawn for itself, and all classes are as frequent."""


@pytest.fixture(scope="module")
def listed() -> tuple[NDArray[np.int64], tuple[int, ...]]:
    """Where each stored row stood in the source, which is sorted by class, and the rows of each shard."""
    paths = [b"class-%d/%05d.jpg" % (label, number) for label in range(CLASSES) for number in range(PER_CLASS)]
    columns = {
        "id": pa.array([sample_id(path, 100) for path in paths], pa.binary(16)),
        "path": pa.array(paths, pa.binary()),
        "size": pa.array(np.full(IMAGES, 100, np.int64)),
        "mtime_ns": pa.array(np.zeros(IMAGES, np.int64)),
        "label": pa.array(np.repeat(np.arange(CLASSES, dtype=np.int32), PER_CLASS)),
        "split": pa.array(["train"] * IMAGES),
    }
    table = lay_out(make_table(columns), SHARD_ROWS)
    source = {path: place for place, path in enumerate(paths)}
    places = np.array([source[path] for path in table["path"].to_pylist()], np.int64)
    return places, tuple(unit.stop - unit.start for unit in units_of(table))


def epoch_places(places: NDArray[np.int64], unit_rows: tuple[int, ...], window: int, epoch: int) -> NDArray[np.int64]:
    """The images of an epoch in their order, each as its place in the source."""
    units, rows = EpochOrder(unit_rows, seed=0, epoch=epoch, window=window).rows(0, IMAGES)
    starts = np.concatenate([[0], np.cumsum(unit_rows)])
    found: NDArray[np.int64] = places[starts[units] + rows]
    return found


def mean_run(places: NDArray[np.int64]) -> float:
    """Mean number of neighbours of one label."""
    labels = places // PER_CLASS
    return len(labels) / (1 + np.count_nonzero(np.diff(labels)))


def correlation(first: NDArray[np.int64], second: NDArray[np.int64]) -> float:
    """Of the positions of the same images in two orders."""
    return float(np.corrcoef(np.argsort(first), np.argsort(second))[0, 1])


@pytest.mark.parametrize("window", [1, TrainSpec().shuffle_window])
def test_labels_are_as_mixed_as_in_a_perfect_permutation(listed: tuple[NDArray[np.int64], tuple[int, ...]], window: int) -> None:
    """Runs of one label are 1.111 images long on average, give or take 1 %, from a source that is sorted by class."""
    places, unit_rows = listed
    for epoch in range(3):
        assert mean_run(epoch_places(places, unit_rows, window, epoch)) == pytest.approx(PERFECT_RUN, rel=0.01)
    assert mean_run(np.arange(IMAGES)) == PER_CLASS


def test_an_epoch_tells_nothing_of_the_source_or_of_the_epoch_before(listed: tuple[NDArray[np.int64], tuple[int, ...]]) -> None:
    """Positions in an epoch, in the source and in the next epoch correlate by less than 0.02 with the default window of shards.

    Whole windows move together, so two epochs correlate by chance like two permutations of the 28 windows, averaged over 20 pairs.
    """
    places, unit_rows = listed
    window = TrainSpec().shuffle_window
    epochs = [epoch_places(places, unit_rows, window, epoch) for epoch in range(21)]
    assert max(abs(correlation(epoch, np.arange(IMAGES))) for epoch in epochs) < 0.02
    between = [correlation(before, after) for before, after in pairwise(epochs)]
    assert abs(np.mean(between)) < 3 / np.sqrt(20 * IMAGES / (window * SHARD_ROWS))


def test_neighbours_do_not_stay_together(listed: tuple[NDArray[np.int64], tuple[int, ...]]) -> None:
    """Of two images in one batch of 256, 3.7 % share a batch in the next epoch as well: 0.5 % would by chance, the rest share a shard."""
    places, unit_rows = listed
    window = TrainSpec().shuffle_window
    batch_of = [np.empty(IMAGES, np.int64) for _ in range(2)]
    for epoch, batches in enumerate(batch_of):
        batches[epoch_places(places, unit_rows, window, epoch)] = np.arange(IMAGES) // 256
    first, second = batch_of
    again = total = 0
    for number in range(IMAGES // 256):
        _, counts = np.unique(second[first == number], return_counts=True)
        again += int((counts * (counts - 1)).sum())
        total += 256 * 255
    assert again / total == pytest.approx(0.037, abs=0.002)
