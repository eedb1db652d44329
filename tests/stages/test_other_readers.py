"""Prepared data are Parquet files like any other: three other programs read what this one wrote."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from workshop import CLASSES, Workshop

from orchestrator.dataset.manifest import read_manifest
from orchestrator.dataset.shards import ALL, SHARDS, read_rows
from orchestrator.images.store import decode_stored

Make = Callable[..., Workshop]
SHAPE = (16, 16, 3)


@dataclass(frozen=True)
class Row:
    """What every reader has to find."""

    label: int
    path: str
    pixels: bytes
    """As this program decodes them."""


@dataclass(frozen=True)
class Prepared:
    """The shards of one split, and their rows by id."""

    shards: list[str]
    rows: dict[str, Row]


@pytest.fixture(params=["png", "jpeg"])
def prepared(make_workshop: Make, request: pytest.FixtureRequest) -> Prepared:
    """The training split of a job on 120 images: three shards, the last one not full."""
    workshop = make_workshop()
    workshop.run(f"data.image.store={request.param}", in_process=True, until="prepare")
    (data,) = (path.parent for path in workshop.root.data.glob("*/manifest.json"))
    manifest = read_manifest(data)
    shards = [data / SHARDS / shard.name for shard in manifest.shards if shard.split == "train"]
    return Prepared([str(path) for path in shards], {identity: row for path in shards for identity, row in rows_of(path, request.param)})


def rows_of(path: Path, store: str) -> list[tuple[str, Row]]:
    rows = read_rows(path, ALL)
    found = []
    for data, source, label, identity in zip(rows.images, rows.paths, rows.labels, rows.ids, strict=True):
        picture: NDArray[np.uint8] = np.empty(SHAPE, np.uint8)
        decode_stored(data, store, picture)
        found.append((identity.tobytes().hex(), Row(int(label), source, picture.tobytes())))
    return found


def pixels(encoded: bytes) -> bytes:
    """As somebody decodes them who knows OpenCV and not this program."""
    picture = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB).tobytes()


def test_datasets_opens_prepared_data(prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`load_dataset("parquet", ...)` without a network gives every row, and the bytes become an `Image` by one cast."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    import datasets

    loaded = datasets.load_dataset("parquet", data_files=prepared.shards, split="train", cache_dir=str(tmp_path / "cache"))
    loaded = loaded.cast_column("image", datasets.Image(decode=False)).cast_column("label", datasets.ClassLabel(names=list(CLASSES)))

    assert len(loaded) == len(prepared.rows)
    assert {row["id"]: Row(row["label"], row["image"]["path"], pixels(row["image"]["bytes"])) for row in loaded} == prepared.rows
    assert {loaded.features["label"].int2str(row["label"]) for row in loaded} == set(CLASSES)


def test_pandas_opens_prepared_data(prepared: Prepared) -> None:
    """`read_parquet` gives a struct of bytes and path as a dict."""
    import pandas as pd

    table = pd.concat([pd.read_parquet(path) for path in prepared.shards])

    assert len(table) == len(prepared.rows)
    assert {
        identity: Row(label, image["path"], pixels(image["bytes"]))
        for identity, label, image in zip(table["id"], table["label"], table["image"], strict=True)
    } == prepared.rows


def test_duckdb_opens_prepared_data(prepared: Prepared) -> None:
    """SQL reaches into the struct, and counts without reading a picture."""
    import duckdb

    with duckdb.connect() as database:
        found = database.execute("select id, label, image.path, image.bytes from read_parquet(?)", [prepared.shards]).fetchall()
        counts = database.execute("select label, count(*) from read_parquet(?) group by label order by label", [prepared.shards]).fetchall()

    assert {identity: Row(label, path, pixels(data)) for identity, label, path, data in found} == prepared.rows
    assert len(found) == len(prepared.rows)
    assert counts == [(label, sum(row.label == label for row in prepared.rows.values())) for label in range(len(CLASSES))]
