"""Units: fixed slices of the listing, the grain of prepare. A unit becomes one shard.

Inside a split, images are ordered by their id. Ids are hashes, so this order is a fixed shuffle: every shard is a sample of
the whole split, and the same listing is cut the same way on every cluster.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from orchestrator.dataset.splits import SPLITS
from orchestrator.durable import discard, storage_error, sync_folder
from orchestrator.errors import StorageError

LISTING = "listing.parquet"
GROUP_ROWS = 65_536
"""Rows in a row group of the stored listing; reading a unit reads the groups that it touches."""


@dataclass(frozen=True)
class Unit:
    """The rows `start` to `stop` of the ordered listing."""

    index: int
    split: str
    start: int
    stop: int


@dataclass(frozen=True)
class ListedImage:
    """One image of a unit."""

    id: bytes
    path: bytes
    """Relative to the source."""
    size: int
    label: int


def order_listing(table: pa.Table) -> pa.Table:
    """By split, then by id."""
    ranks = pc.index_in(table["split"], pa.array(SPLITS))
    return table.append_column("rank", ranks).sort_by([("rank", "ascending"), ("id", "ascending")]).drop_columns(["rank"])


def cut_units(table: pa.Table, unit_rows: int) -> list[Unit]:
    """Cut the ordered listing: no unit holds images of two splits."""
    counts = {row["values"]: row["counts"] for row in pc.value_counts(table["split"]).to_pylist()}
    units: list[Unit] = []
    start = 0
    for split in SPLITS:
        end = start + counts.get(split, 0)
        for row in range(start, end, unit_rows):
            units.append(Unit(len(units), split, row, min(row + unit_rows, end)))
        start = end
    return units


def write_listing(folder: Path, table: pa.Table) -> None:
    """Store the ordered listing where the workers of prepare find it.

    Raises:
        StorageError: The storage is full or does not take the file.
    """
    temporary = folder / f".{LISTING}.{os.getpid()}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            pq.write_table(order_listing(table), file, row_group_size=GROUP_ROWS, write_page_checksum=True)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(folder / LISTING)
        sync_folder(folder)
    except OSError as error:
        discard(temporary)
        raise storage_error(error, folder / LISTING) from error


def read_unit(folder: Path, unit: Unit) -> list[ListedImage]:
    """The images of a unit, in their order.

    Raises:
        StorageError: The stored listing is missing or damaged.
    """
    path = folder / LISTING
    first, last = unit.start // GROUP_ROWS, (unit.stop - 1) // GROUP_ROWS
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read_row_groups(range(first, last + 1), columns=["id", "path", "size", "label"])
    except (OSError, pa.ArrowException) as error:
        raise StorageError(f"cannot read {path}: {error}", "run the same command again: it writes the listing anew") from error
    rows = table.slice(unit.start - first * GROUP_ROWS, unit.stop - unit.start)
    return [ListedImage(**row) for row in rows.to_pylist()]
