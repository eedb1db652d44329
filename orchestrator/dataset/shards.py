"""Shards: Parquet files of prepared images that `datasets`, pandas and DuckDB open as well.

Columns: `image` (struct of the encoded bytes and the path in the source), `label`, `id` (32 hex digits), and of the source
image `width`, `height`, `sha256` of the file, `kind` (format, mode, depth) and `look` (32 bytes of hash and an 8 x 8 grey copy).
A shard is named by the hash of its content and never changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from orchestrator.durable import sync_name, write_atomically
from orchestrator.errors import StorageError

SHARDS = "shards"
GROUP_ROWS = 256
"""Rows in a row group: the grain at which a shard can be read."""
ALL: None = None
"""Every row of a shard."""

SCHEMA = pa.schema(
    [
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("label", pa.int64()),
        ("id", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("sha256", pa.string()),
        ("kind", pa.string()),
        ("look", pa.binary()),
    ]
)
TRAINING_COLUMNS = ["image", "label", "id"]


@dataclass(frozen=True)
class ShardRows:
    """The rows of one shard, column by column."""

    images: list[bytes]
    paths: list[str]
    labels: NDArray[np.int64]
    ids: NDArray[np.uint8]
    """(rows, 16)."""
    widths: NDArray[np.int32]
    heights: NDArray[np.int32]
    hashes: list[str]
    """SHA-256 of the source files, in hex."""
    kinds: list[str]
    looks: list[bytes]


@dataclass(frozen=True)
class StoredRows:
    """What training and evaluation read of a shard."""

    images: list[memoryview]
    """Parts of the memory that was read into."""
    paths: list[str]
    labels: NDArray[np.int64]
    ids: NDArray[np.uint8]
    """(rows, 16)."""


@dataclass(frozen=True)
class ShardFile:
    """A shard on disk."""

    name: str
    rows: int
    size_bytes: int
    sha256: str


def write_shard(data: Path, rows: ShardRows) -> ShardFile:
    """Write a shard into the folder of the prepared data; the same rows give the same file.

    Raises:
        StorageError: The storage is full or does not take the file.
    """
    folder = data / SHARDS
    content = _to_parquet(rows)
    digest = hashlib.sha256(content).hexdigest()
    shard = ShardFile(f"{digest[:32]}.parquet", len(rows.images), len(content), digest)
    path = folder / shard.name
    if path.is_file() and path.stat().st_size == len(content):
        sync_name(path)
    else:
        write_atomically(path, content)
    return shard


def _to_parquet(rows: ShardRows) -> memoryview:
    images = pa.StructArray.from_arrays([pa.array(rows.images, pa.binary()), pa.array(rows.paths, pa.string())], ["bytes", "path"])
    ids = [row.tobytes().hex() for row in rows.ids]
    columns = [images, rows.labels, ids, rows.widths, rows.heights, rows.hashes, rows.kinds, pa.array(rows.looks, pa.binary())]
    table = pa.Table.from_arrays(columns, schema=SCHEMA)
    sink = pa.BufferOutputStream()
    pq.write_table(
        table, sink, row_group_size=GROUP_ROWS, compression="none", use_dictionary=False, write_page_checksum=True, write_statistics=False
    )
    return memoryview(sink.getvalue())


_verified: dict[Path, set[int]] = {}
"""Row groups whose checksums this process has found right."""


def read_rows(path: Path, rows: NDArray[np.int64] | None) -> StoredRows:
    """Read sorted rows of a shard, or `ALL`; the page checksums of a row group are verified when a process reads it for the first time.

    A shard never changes, and verifying it in every epoch would take a twelfth of the time of reading photographs.

    Raises:
        StorageError: The shard is missing or damaged.
    """
    verified = _verified.setdefault(path, set())
    groups = None if rows is None else set(np.unique(rows // GROUP_ROWS).tolist())
    stored = _read_stored(path, rows, verify=groups is None or not groups <= verified)
    verified.update(groups or ())
    return stored


def _read_stored(path: Path, rows: NDArray[np.int64] | None, *, verify: bool) -> StoredRows:
    with _opened(path, verify=verify) as file:
        table, within = _read_table(file, rows, TRAINING_COLUMNS)
        ids = np.frombuffer(bytes.fromhex("".join(table["id"].to_pylist())), np.uint8).reshape(-1, 16)
        images = [view for chunk in table["image"].chunks for view in _views(chunk.field("bytes"))]
        paths = [name for chunk in table["image"].chunks for name in chunk.field("path").to_pylist()]
        places = within.tolist()
        return StoredRows(
            images=[images[place] for place in places],
            paths=[paths[place] for place in places],
            labels=table["label"].to_numpy()[within],
            ids=ids[within],
        )


def read_labels(path: Path) -> NDArray[np.int64]:
    """The label of every row.

    Raises:
        StorageError: The shard is missing or damaged.
    """
    with _opened(path) as file:
        table, _ = _read_table(file, ALL, ["label"])
    labels: NDArray[np.int64] = table["label"].to_numpy()
    return labels


def read_facts(path: Path) -> pa.Table:
    """All that a shard says of its source images, without their pixels: every column but `image`, and `path`.

    Raises:
        StorageError: The shard is missing or damaged.
    """
    with _opened(path) as file:
        names = [name for name in SCHEMA.names if name != "image"]
        table, _ = _read_table(file, ALL, ["image.path", *names])
        return table.select(names).append_column("path", table["image"].combine_chunks().field("path"))


@contextmanager
def _opened(path: Path, *, verify: bool = True) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(path, page_checksum_verification=verify) as file:
            yield file
    except FileNotFoundError as error:
        raise StorageError(f"the shard {path} is missing", "delete the data folder and run the job again") from error
    except (OSError, ValueError, TypeError, pa.ArrowException) as error:
        raise StorageError(f"the shard {path} is damaged: {error}", "delete the data folder and run the job again") from error


def _read_table(file: pq.ParquetFile, rows: NDArray[np.int64] | None, columns: list[str]) -> tuple[pa.Table, NDArray[np.int64]]:
    """The row groups that hold `rows`, and where those are in the table.

    Names, types and counts lie outside the pages, so no checksum covers them.
    """
    if file.schema_arrow != SCHEMA:
        raise ValueError(f"its columns are {file.schema_arrow.names}, their types {[str(kind) for kind in file.schema_arrow.types]}")
    groups = np.arange(file.num_row_groups) if rows is None else np.unique(rows // GROUP_ROWS)
    table = file.read_row_groups(groups.tolist(), columns=columns)
    expected = int(np.minimum(GROUP_ROWS, file.metadata.num_rows - groups * GROUP_ROWS).sum())
    if table.num_rows != expected:
        raise ValueError(f"{table.num_rows} rows where {expected} are announced")
    if rows is None:
        return table, np.arange(expected)
    return table, np.searchsorted(groups, rows // GROUP_ROWS) * GROUP_ROWS + rows % GROUP_ROWS


def _views(values: pa.BinaryArray) -> list[memoryview]:
    """The values without a copy, which would cost as much as reading them again."""
    _, offsets, content = values.buffers()
    bounds = np.frombuffer(offsets, np.int32)[values.offset : values.offset + len(values) + 1].tolist()
    whole = memoryview(content or b"").cast("B")
    return [whole[start:stop] for start, stop in pairwise(bounds)]
