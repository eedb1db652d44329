"""The stored listing gives every worker its unit, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from orchestrator.dataset.listing import make_table, sample_id
from orchestrator.dataset.units import GROUP_ROWS, Unit, lay_out, read_listing, read_unit, units_of, write_listing
from orchestrator.errors import StorageError


def table_of(counts: dict[str, int]) -> pa.Table:
    rows = [(f"cat/{split}-{number}.jpg".encode(), number, split) for split, count in counts.items() for number in range(count)]
    columns = {
        "id": pa.array([sample_id(path, size) for path, size, _ in rows], pa.binary(16)),
        "path": pa.array([path for path, _, _ in rows], pa.binary()),
        "size": pa.array([size for _, size, _ in rows], pa.int64()),
        "mtime_ns": pa.array([0] * len(rows), pa.int64()),
        "label": pa.array([0] * len(rows), pa.int32()),
        "split": pa.array([split for _, _, split in rows], pa.string()),
    }
    return make_table(columns)


def test_units_share_out_the_listing(tmp_path: Path) -> None:
    """Every image lies in exactly one unit, no unit in two splits, and inside a split the ids ascend."""
    table = table_of({"test": 7, "train": 25, "validation": 3})
    laid_out = lay_out(table, 10)
    units = units_of(laid_out)
    assert [(unit.split, unit.stop - unit.start) for unit in units] == [("train", 10)] * 2 + [("train", 5), ("validation", 3), ("test", 7)]
    assert [unit.index for unit in units] == list(range(5))

    write_listing(tmp_path, laid_out)
    stored = read_listing(tmp_path)
    assert stored is not None
    assert units_of(stored) == units
    read = [[image.id for image in read_unit(tmp_path, unit)] for unit in units]
    splits = dict(zip(table["id"].to_pylist(), table["split"].to_pylist(), strict=True))
    assert sorted(identity for ids in read for identity in ids) == sorted(splits)
    assert all(splits[identity] == unit.split for unit, ids in zip(units, read, strict=True) for identity in ids)
    assert read[0] + read[1] + read[2] == sorted(identity for identity, split in splits.items() if split == "train")


def test_the_order_of_the_listing_does_not_matter(tmp_path: Path) -> None:
    """The same images in another order give the same file."""
    table = table_of({"train": 30, "test": 5})
    write_listing(tmp_path / "a", lay_out(table, 10))
    write_listing(tmp_path / "b", lay_out(table.take(list(range(34, -1, -1))), 10))
    assert (tmp_path / "a" / "listing.parquet").read_bytes() == (tmp_path / "b" / "listing.parquet").read_bytes()


def test_a_unit_may_lie_in_two_row_groups(tmp_path: Path) -> None:
    """A unit across the border of two row groups is read whole."""
    table = table_of({"train": GROUP_ROWS + 10})
    write_listing(tmp_path, lay_out(table, 1000))
    ids = sorted(table["id"].to_pylist())
    for start, stop in ((GROUP_ROWS - 5, GROUP_ROWS + 5), (GROUP_ROWS, GROUP_ROWS + 10), (0, 3)):
        assert [image.id for image in read_unit(tmp_path, Unit(0, "train", start, stop))] == ids[start:stop]


def test_a_listing_that_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    """Missing, cut, or with a flipped bit in its rows: one error of storage."""
    write_listing(tmp_path, lay_out(table_of({"train": 5}), 10))
    path = tmp_path / "listing.parquet"
    content = path.read_bytes()
    for damaged in (content[:50], b"", content[:40] + bytes([content[40] ^ 1]) + content[41:]):
        path.write_bytes(damaged)
        with pytest.raises(StorageError, match=r"cannot read .*listing\.parquet"):
            read_unit(tmp_path, Unit(0, "train", 0, 5))
        assert read_listing(tmp_path) is None
    path.unlink()
    with pytest.raises(StorageError, match=r"cannot read .*listing\.parquet"):
        read_unit(tmp_path, Unit(0, "train", 0, 5))
