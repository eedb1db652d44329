"""Damage to prepared data is found, whatever it is."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from orchestrator.dataset.commit import UnitRecord, commit, write_unit_record
from orchestrator.dataset.health import write_health
from orchestrator.dataset.listing import make_table
from orchestrator.dataset.manifest import StoredImage
from orchestrator.dataset.shards import ShardRows, write_shard
from orchestrator.dataset.units import lay_out, units_of, write_listing
from orchestrator.dataset.verify import data_faults

ROWS = 6


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small committed data set with its listing and its health."""
    data = tmp_path_factory.mktemp("prepared")
    ids = [bytes([row]) * 16 for row in range(ROWS)]
    splits = ["train"] * 4 + ["test"] * 2
    columns = {
        "id": pa.array(ids, pa.binary(16)),
        "path": pa.array([b"%d.png" % row for row in range(ROWS)], pa.binary()),
        "size": pa.array([1] * ROWS, pa.int64()),
        "label": pa.array([row % 2 for row in range(ROWS)], pa.int32()),
        "split": pa.array(splits),
    }
    table = lay_out(make_table(columns), 4)
    write_listing(data, table)
    units, records = units_of(table), {}
    for unit in units:
        count = unit.stop - unit.start
        rows = ShardRows(
            images=[bytes([unit.index, row]) * 8 for row in range(count)],
            paths=[f"{row}.png" for row in range(count)],
            labels=np.arange(count, dtype=np.int64) % 2,
            ids=np.frombuffer(b"".join(ids[unit.start : unit.stop]), np.uint8).reshape(-1, 16),
            widths=np.full(count, 4, np.int32),
            heights=np.full(count, 4, np.int32),
            hashes=[f"{unit.index:032x}{row:032x}" for row in range(count)],
            kinds=["png grey"] * count,
            looks=[bytes(96)] * count,
        )
        shard = write_shard(data, rows)
        records[unit.index] = UnitRecord(
            unit.index, unit.split, count, shard.name, shard.rows, shard.size_bytes, shard.sha256, (), count * 16, (0,), (0,)
        )
        write_unit_record(data, records[unit.index])
    image = StoredImage(size=4, channels=1, store="raw", fit="crop")
    manifest = commit(data, fingerprint="f" * 16, recipe="r", classes=("cat", "dog"), units=units, records=records, skipped={}, image=image)
    write_health(data, manifest)
    return data


@pytest.fixture
def copy(prepared: Path, tmp_path: Path) -> Path:
    shutil.copytree(prepared, tmp_path / "data")
    return tmp_path / "data"


def parts(data: Path) -> list[Path]:
    """Every file that belongs to the data set; records of units say how it was made, and are compared before anything is made of them."""
    return [path for path in sorted(data.rglob("*")) if path.is_file() and path.parent.name != "units"]


def test_sound_data_has_no_faults(copy: Path) -> None:
    """Nothing is reported of what was just written."""
    assert {path.name for path in parts(copy)} >= {"manifest.json", "listing.parquet", "rejects.parquet", "health.json"}
    assert data_faults(copy) == []


def test_every_flipped_bit_is_found(copy: Path) -> None:
    """One bit of every byte of every file: each flip is reported, and names the file or the manifest."""
    chance = np.random.default_rng(0)
    for path in parts(copy):
        content = path.read_bytes()
        step = max(1, len(content) // 300)
        for at in range(0, len(content), step):
            path.write_bytes(content[:at] + bytes([content[at] ^ 1 << int(chance.integers(0, 8))]) + content[at + 1 :])
            faults = data_faults(copy)
            assert faults, (path.name, at)
            assert any(path.name in fault for fault in faults), (path.name, at, faults)
        path.write_bytes(content)


def test_every_missing_file_is_found(copy: Path) -> None:
    """All but the health page, which is made again from the shards."""
    for path in parts(copy):
        if path.name == "health.json":
            continue
        content = path.read_bytes()
        path.unlink()
        (fault,) = data_faults(copy)
        assert path.name in fault
        assert "missing" in fault
        path.write_bytes(content)


def test_a_file_too_many_is_named(copy: Path) -> None:
    """A shard of nobody may be what an interrupted writer left, or a mistake: it is said."""
    (copy / "shards" / "stray.parquet").write_bytes(b"")

    assert data_faults(copy) == [f"{copy / 'shards' / 'stray.parquet'} belongs to no data set"]
