"""A few training images as the first epochs are given them: for the verb `preview`, and for the report of a run."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from orchestrator.dataset.manifest import Manifest, StoredImage
from orchestrator.dataset.shards import SHARDS, read_facts, read_rows
from orchestrator.durable import write_json
from orchestrator.images.decode import Content
from orchestrator.images.sheet import shrink
from orchestrator.images.store import encode
from orchestrator.record.folder import RunFolder
from orchestrator.spec.job import JobSpec
from orchestrator.stages.augmentation import augmentation_step, view_of
from orchestrator.stages.feed import show_sample

REPORT_IMAGES = 6
REPORT_EPOCHS = 4
REPORT_SIDE = 64
"""Pixels; with the counts above it keeps the pictures of a report below 400 KB, whatever is on them."""
POOL_ROWS = 2048
"""So many rows, of the first shards, does a report choose from; rows lie in an order that is a shuffle."""


def headings(epochs: int) -> list[str]:
    """What the pictures of an image are, in their order; people count epochs from 1."""
    return ["evaluated", *(f"epoch {number}" for number in range(1, epochs + 1))]


def taking_turns(labels: NDArray[np.int64], ids: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Places of images in an order of which every beginning has as many classes as possible.

    First one of each class, then a second one of each, and so on; inside that by id, which is a shuffle, whatever the order of
    the arguments.

    Args:
        labels: (N,).
        ids: (N, 16).
    """
    high, low = np.ascontiguousarray(ids).view(">u8").T
    by_class = np.lexsort((low, high, labels))
    sorted_labels = labels[by_class]
    turns = np.empty(len(labels), np.int64)
    turns[by_class] = np.arange(len(labels)) - np.searchsorted(sorted_labels, sorted_labels)
    return np.lexsort((low, high, turns))


def views(stored: Sequence[Content], ids: NDArray[np.uint8], image: StoredImage, job: JobSpec, epochs: int) -> NDArray[np.uint8]:
    """Stored pictures as they are evaluated, and as each of the first epochs is given them: (M, 1 + epochs, H, W, C) uint8.

    Args:
        stored: What a shard holds of each picture.
        ids: (M, 16).
        image: What every stored picture looks like.
        job: Says what is done to them.
        epochs: From the first on.

    Raises:
        DataError: Some bytes do not hold such a picture.
        TrainingError: A transform of the user's own failed.
    """
    view, steps = view_of(image, job.data.image.size), tuple(augmentation_step(step) for step in job.augment)
    shown: NDArray[np.uint8] = np.empty((len(stored), 1 + epochs, view.size, view.size, view.channels), np.uint8)
    for data, identity, pictures in zip(stored, ids, shown, strict=True):
        for epoch, picture in zip((None, *range(epochs)), pictures, strict=True):
            show_sample(view, steps, job.train.seed, data, identity.tobytes(), epoch, picture)
    return shown


def show_preview(folder: RunFolder, job: JobSpec, manifest: Manifest, data: Path) -> None:
    """Write `preview.json` of the run from the prepared data, unless it is there.

    Raises:
        StorageError: A shard is damaged, or the storage is full.
        TrainingError: A transform of the user's own failed, as it would in training.
    """
    if folder.preview.is_file():
        return
    size, epochs = job.data.image.size, min(REPORT_EPOCHS, job.train.epochs)
    facts = _first_rows(manifest, data)
    ids = np.frombuffer(bytes.fromhex("".join(facts["id"].to_pylist())), np.uint8).reshape(-1, 16)
    chosen = taking_turns(facts["label"].to_numpy(), ids)[:REPORT_IMAGES]
    chosen = chosen[np.argsort(facts["label"].to_numpy()[chosen], kind="stable")]
    rows = facts.take(pa.array(chosen)).to_pylist()
    stored = [read_rows(data / SHARDS / row["shard"], np.array([row["row"]], np.int64)).images[0] for row in rows]
    shown = [
        {"id": row["id"], "path": row["path"], "name": manifest.classes[row["label"]], "pictures": [_embedded(one) for one in pictures]}
        for row, pictures in zip(rows, views(stored, ids[chosen], manifest.image, job, epochs), strict=True)
    ]
    write_json(folder.preview, {"headings": headings(epochs), "size": size, "shown": min(size, REPORT_SIDE), "images": shown})


def _first_rows(manifest: Manifest, data: Path) -> pa.Table:
    """What the first training shards say of their images, and where each of them lies: `shard` and `row`."""
    tables, rows = [], 0
    for shard in manifest.shards:
        if shard.split == "train" and rows < POOL_ROWS:
            table = read_facts(data / SHARDS / shard.name).select(["id", "label", "path"])
            places = {"shard": pa.repeat(shard.name, len(table)), "row": pa.array(np.arange(len(table)))}
            tables.append(pa.table({**dict(zip(table.column_names, table.columns, strict=True)), **places}))
            rows += len(table)
    return pa.concat_tables(tables)


def _embedded(picture: NDArray[np.uint8]) -> str:
    return base64.b64encode(encode(shrink(picture, REPORT_SIDE), "png", 95)).decode()
