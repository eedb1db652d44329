"""Units: fixed slices of the listing, the grain of prepare. A unit becomes one shard.

Inside a split, images are ordered by their id. Ids are hashes, so this order is a fixed shuffle: every shard is a sample of
the whole split, and the same listing is cut the same way on every cluster. When a collection has changed, units whose images
are all as they were stay units, and the other images form new ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from orchestrator.dataset.listing import SCHEMA
from orchestrator.dataset.splits import SPLITS
from orchestrator.durable import create_once, write_atomically
from orchestrator.errors import StorageError

LISTING = "listing.parquet"
STORED = SCHEMA.append(pa.field("unit", pa.int32()))
"""Columns of the stored listing."""
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
    """Bytes; below 0 where the source does not say, or has lost the image."""
    label: int
    file: bytes | None = None
    """The file that holds the image among others."""
    place: int = 0
    """In that file: the byte at which it starts, or its row."""
    chunk: bytes | None = None
    """Given where the image can only be read together with its neighbours."""

    @classmethod
    def columns(cls) -> list[str]:
        """The columns of a listing that say where an image is."""
        return [field.name for field in fields(cls)]


def lay_out(table: pa.Table, unit_rows: int, kept: Sequence[NDArray[np.int64]] = ()) -> pa.Table:
    """The listing in the order in which it is prepared, with the number of its unit for every image.

    No unit holds images of two splits. The rows of a split that are in no kept unit are ordered by their id, or by the hash of
    the stretch of a file that they can only be read with.

    Args:
        table: With the columns of a listing, every split filled.
        unit_rows: Images in a new unit.
        kept: Rows of the table that are a unit already, in their order there.
    """
    splits = pc.index_in(table["split"], pa.array(SPLITS)).to_numpy()
    fresh = np.ones(table.num_rows, np.bool_)
    for rows in kept:
        fresh[rows] = False
    order = pc.sort_indices(table, [("chunk", "ascending"), ("id", "ascending")]).to_numpy().astype(np.int64)
    pieces: list[NDArray[np.int64]] = []
    for split in range(len(SPLITS)):
        rows = order[fresh[order] & (splits[order] == split)]
        pieces += [piece for piece in kept if splits[piece[0]] == split]
        pieces += [rows[start : start + unit_rows] for start in range(0, len(rows), unit_rows)]
    places = np.concatenate(pieces) if pieces else np.empty(0, np.int64)
    assert len(places) == table.num_rows, "an image has no split"  # noqa: S101 -- none is lost in silence
    numbers = np.repeat(np.arange(len(pieces), dtype=np.int32), [len(piece) for piece in pieces])
    return table.take(pa.array(places)).append_column("unit", pa.array(numbers))


def units_of(table: pa.Table) -> list[Unit]:
    """The units of a listing that is laid out."""
    numbers = table["unit"].to_numpy()
    starts = np.flatnonzero(np.r_[True, np.diff(numbers) != 0]) if len(numbers) else np.empty(0, np.int64)
    stops = np.r_[starts[1:], len(numbers)]
    splits = table["split"].take(pa.array(starts)).to_pylist()
    return [Unit(*unit) for unit in zip(range(len(starts)), splits, starts.tolist(), stops.tolist(), strict=True)]


def write_listing(folder: Path, table: pa.Table) -> pa.Table:
    """Store a listing that is laid out where the workers of prepare find it.

    Returns:
        The layout that counts: of two starts at the same time that of the first one.

    Raises:
        StorageError: The storage is full or does not take the file.
    """
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=GROUP_ROWS, write_page_checksum=True)
    content = memoryview(sink.getvalue())
    if create_once(folder / LISTING, content):
        return table
    stored = read_listing(folder)
    if stored is not None and stored.num_rows == table.num_rows:
        return stored
    write_atomically(folder / LISTING, content)  # what was there is damaged
    return table


def read_listing(folder: Path) -> pa.Table | None:
    """The listing that an earlier start has stored; None where there is none, or none that can be read."""
    try:
        with pq.ParquetFile(folder / LISTING, page_checksum_verification=True) as file:
            return file.read() if file.schema_arrow.equals(STORED) else None
    except (OSError, pa.ArrowException):
        return None  # killed before it was whole, or damaged since: it is laid out anew


def read_unit(folder: Path, unit: Unit) -> list[ListedImage]:
    """The images of a unit, in their order.

    Raises:
        StorageError: The stored listing is missing or damaged.
    """
    path = folder / LISTING
    first, last = unit.start // GROUP_ROWS, (unit.stop - 1) // GROUP_ROWS
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read_row_groups(range(first, last + 1), columns=ListedImage.columns())
    except (OSError, pa.ArrowException) as error:
        raise StorageError(f"cannot read {path}: {error}", "run the same command again: it writes the listing anew") from error
    rows = table.slice(unit.start - first * GROUP_ROWS, unit.stop - unit.start)
    return [ListedImage(**row) for row in rows.to_pylist()]
