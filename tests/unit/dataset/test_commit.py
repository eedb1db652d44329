"""A data set is there as a whole or not at all, and it is the same whoever wrote it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from small_units import IMAGE, REJECT, UNITS, finish, rows_of, write_unit

from orchestrator.dataset.commit import commit, completed_units
from orchestrator.dataset.manifest import is_prepared, read_manifest
from orchestrator.dataset.shards import ALL, read_rows, write_shard
from orchestrator.errors import StorageError


def test_a_committed_data_set_accounts_for_every_image(tmp_path: Path) -> None:
    """Rows and rejects add up to the listing; the manifest reads back as it was written; rejects keep their odd names."""
    manifest = finish(tmp_path)
    assert manifest == read_manifest(tmp_path)
    assert manifest.splits == {"train": 599, "validation": 50, "test": 50}
    assert sum(manifest.splits.values()) + manifest.rejects == 700
    (row,) = pq.read_table(tmp_path / "rejects.parquet").to_pylist()
    assert row["path"] == b"cat/\xff.jpg"
    assert row["reason"] == "not_an_image"


def test_statistics_are_those_of_the_training_pixels(tmp_path: Path) -> None:
    """Mean and deviation agree with numpy over all training pixels."""
    manifest = finish(tmp_path)
    pixels = np.concatenate([np.frombuffer(b"".join(rows_of(unit).images), np.uint8) for unit in UNITS[:2]]) / 255
    assert manifest.pixels.mean[0] == pytest.approx(pixels.mean())
    assert manifest.pixels.std[0] == pytest.approx(pixels.std())


def test_finished_units_are_kept_and_the_manifest_is_the_same(tmp_path: Path) -> None:
    """Stopped after any number of units and continued, the manifest is the same, byte for byte."""
    expected = finish(tmp_path / "whole").to_bytes()
    for stopped_after in range(len(UNITS)):
        data = tmp_path / f"stopped{stopped_after}"
        for unit in UNITS[:stopped_after]:
            write_unit(data, unit)
        assert not is_prepared(data)
        assert sorted(completed_units(data, UNITS)) == list(range(stopped_after))
        assert finish(data).to_bytes() == expected


def test_a_damaged_record_or_a_missing_shard_means_the_unit_is_done_again(tmp_path: Path) -> None:
    """A torn record and a shard of the wrong size do not count as finished."""
    records = [write_unit(tmp_path, unit) for unit in UNITS]
    (tmp_path / "units" / "00000000.json").write_text('{"unit": 0, "spl')
    (tmp_path / "shards" / records[2].shard).write_bytes(b"short")
    assert sorted(completed_units(tmp_path, UNITS)) == [1, 3]


def test_an_incomplete_data_set_is_refused(tmp_path: Path) -> None:
    """A unit without a record, or one that lost images, is named, and no manifest appears."""
    records = {unit.index: write_unit(tmp_path, unit) for unit in UNITS}
    arguments = {"fingerprint": "f", "recipe": "r", "classes": ("a",), "units": UNITS, "skipped": {}, "image": IMAGE}
    with pytest.raises(StorageError, match=r"without a record \[2\]"):
        commit(tmp_path, records={index: record for index, record in records.items() if index != 2}, **arguments)
    with pytest.raises(StorageError, match=r"lost images \[0\]"):
        commit(tmp_path, records=records | {0: replace(records[0], rows=299)}, **arguments)
    assert not is_prepared(tmp_path)


def test_committing_twice_is_one_data_set(tmp_path: Path) -> None:
    """The same content again succeeds."""
    first = finish(tmp_path)
    assert finish(tmp_path) == first


def test_a_writer_that_comes_second_with_other_content_changes_nothing(tmp_path: Path) -> None:
    """A conflict is an error, and every file that the winner committed stays as it is."""
    manifest = finish(tmp_path)
    names = ["manifest.json", "rejects.parquet", *(f"shards/{shard.name}" for shard in manifest.shards)]
    committed = {name: (tmp_path / name).read_bytes() for name in names}

    other = replace(rows_of(UNITS[3]), paths=["cat/renamed.png"] * 50)
    shard = write_shard(tmp_path, other)
    records = completed_units(tmp_path, UNITS)
    records[1] = replace(records[1], rejects=(replace(REJECT, reason="corrupt"),))
    records[3] = replace(records[3], shard=shard.name, sha256=shard.sha256, size_bytes=shard.size_bytes)
    with pytest.raises(StorageError, match="another writer"):
        commit(
            tmp_path,
            fingerprint="f" * 16,
            recipe="r",
            classes=("cat", "dog"),
            units=UNITS,
            records=records,
            skipped={"hidden": 1},
            image=IMAGE,
        )
    assert {name: (tmp_path / name).read_bytes() for name in names} == committed


def test_shards_that_are_not_there_are_refused(tmp_path: Path) -> None:
    """A record whose shard is not in the folder, or not whole, means that a worker wrote elsewhere."""
    records = {unit.index: write_unit(tmp_path, unit) for unit in UNITS}
    (tmp_path / "shards" / records[0].shard).unlink()
    (tmp_path / "shards" / records[2].shard).write_bytes(b"half")
    with pytest.raises(StorageError, match=f"2 shards that workers wrote are not in .*{records[0].shard}"):
        commit(tmp_path, fingerprint="f", recipe="r", classes=("a",), units=UNITS, records=records, skipped={}, image=IMAGE)
    assert not is_prepared(tmp_path)


def test_a_damaged_manifest_is_named(tmp_path: Path) -> None:
    """Cut, empty, or of another kind: one error of storage, never another."""
    content = finish(tmp_path).to_bytes()
    for damaged in (
        content[:200],
        b"",
        b"[]",
        b"{}",
        b'"text"',
        content.replace(b'"splits": {', b'"splits": [{').replace(b"},", b"}],", 1),
    ):
        (tmp_path / "manifest.json").write_bytes(damaged)
        with pytest.raises(StorageError, match="damaged"):
            read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_bytes(content.replace(b'"skipped": {\n  "hidden": 1\n }', b'"skipped": "text"'))
    with pytest.raises(StorageError, match="damaged"):
        read_manifest(tmp_path)


def test_what_killed_writers_left_is_swept(tmp_path: Path) -> None:
    """Temporary files of dead processes and shards that no record names are gone after the commit; a living writer's file stays."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / f".half.parquet.12ab34cd.{dead.pid}@{platform.node()}.tmp").write_bytes(b"half")
    (tmp_path / "shards" / ("0" * 32 + ".parquet")).write_bytes(b"orphan")
    (tmp_path / f".manifest.json.12ab34cd.{dead.pid}@{platform.node()}.tmp").write_bytes(b"half")
    living = tmp_path / f".manifest.json.12ab34cd.{os.getppid()}@{platform.node()}.tmp"
    living.write_bytes(b"being written")
    manifest = finish(tmp_path)
    assert sorted(path.name for path in (tmp_path / "shards").iterdir()) == sorted(shard.name for shard in manifest.shards)
    assert list(tmp_path.glob(".*.tmp")) == [living]


def test_shards_open_in_pandas_and_read_row_by_row(tmp_path: Path) -> None:
    """The columns of the data contract are there, and any sorted choice of rows comes back in order."""
    rows = rows_of(UNITS[0])
    shard = write_shard(tmp_path, rows)
    frame = pd.read_parquet(tmp_path / "shards" / shard.name)
    assert list(frame.columns) == ["image", "label", "id", "width", "height", "sha256", "kind", "look"]
    assert frame["image"][5]["bytes"] == rows.images[5]

    wanted = np.array([0, 3, 255, 256, 299])
    found = read_rows(tmp_path / "shards" / shard.name, wanted)
    assert found.images == [rows.images[row] for row in wanted]
    assert found.paths == [rows.paths[row] for row in wanted]
    np.testing.assert_array_equal(found.ids, rows.ids[wanted])
    np.testing.assert_array_equal(read_rows(tmp_path / "shards" / shard.name, ALL).labels, rows.labels)


def test_shards_are_deterministic_and_named_by_their_content(tmp_path: Path) -> None:
    """The same rows give the same file name and bytes."""
    first, second = write_shard(tmp_path / "a", rows_of(UNITS[0])), write_shard(tmp_path / "b", rows_of(UNITS[0]))
    assert first == second
    assert first.sha256.startswith(first.name.removesuffix(".parquet"))


def test_flipped_bits_in_pixels_are_found(tmp_path: Path) -> None:
    """A changed bit anywhere in the stored pictures is an error when the shard is read."""
    rows = rows_of(UNITS[0])
    shard = write_shard(tmp_path, rows)
    path = tmp_path / "shards" / shard.name
    content = path.read_bytes()
    for picture in (0, 100, 299):
        at = content.index(rows.images[picture])
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(StorageError, match="damaged"):
            read_rows(path, ALL)
    path.unlink()
    with pytest.raises(StorageError, match="missing"):
        read_rows(path, ALL)
