"""Parquet files that hold the images themselves, as `datasets` writes them.

Columns: `image` (a struct of `bytes` and `path`, or the bytes alone), `label` (a number or a name), and where wanted `split`,
`id` and `group`. Only whole row groups can be read, so images are prepared row group by row group, in an order of their own.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from orchestrator.dataset.listing import (
    FAULTS_SHOWN,
    UNKNOWN_SIZE,
    Listing,
    chunk_id,
    class_names,
    make_table,
    source_problem,
    source_problems,
)
from orchestrator.dataset.sources.manifests import OPTIONAL, check_classes, check_columns, ids_of, labels_of, split_and_group, without_nulls
from orchestrator.dataset.sources.parts import base_of, relative_to, splits_of
from orchestrator.dataset.sources.storage import ahead, file_facts, open_file, patiently, unreadable

IMAGE = "image"
REQUIRED = (IMAGE, "label")
FOOTER_THREADS = 8


def holds_images(part: str) -> bool:
    """Whether a Parquet file has the images in it, and not their addresses.

    Raises:
        JobError: It is missing, or not a Parquet file.
        DataError: It cannot be read.
    """
    return IMAGE in _footer(part).names


def list_rows(source: str, parts: Sequence[str]) -> Listing:
    """List the rows of Parquet files.

    Raises:
        JobError: They lack a column, or name no classes.
        DataError: They cannot be read.
    """
    base = base_of(source, parts)
    names = [relative_to(base, part) for part in parts]
    skipped: Counter[str] = Counter()
    labels = _class_names(parts[0])
    found = ahead(
        lambda one: _rows_of(base, *one), zip(parts, names, splits_of(names), strict=True), threads=min(FOOTER_THREADS, len(parts))
    )
    tables = [without_nulls(table, "label", "label_missing", skipped) for table in found]
    table = pa.concat_tables(tables, promote_options="default")
    classes = labels or class_names(table["label"].to_pylist())
    check_classes(source, classes)
    columns = {name: table[name] for name in ("path", "file", "place", "chunk", "mtime_ns")}
    paths, sizes = table["path"].to_pylist(), np.full(table.num_rows, UNKNOWN_SIZE, np.int64)
    named = _named(source, table["label"], labels)
    columns |= {"id": ids_of(table, paths, sizes), "size": pa.array(sizes), "label": labels_of(named, classes)}
    return Listing(source, base, classes, make_table(columns | split_and_group(source, table)), dict(skipped))


def _footer(part: str) -> pa.Schema:
    try:
        with open_file(part) as file:
            return patiently(lambda: pq.read_schema(file), part)
    except FileNotFoundError as error:
        raise source_problem(part, "no such file", "name existing Parquet files") from error
    except (pa.ArrowException, ValueError) as error:
        raise source_problem(part, f"is not a Parquet file: {str(error).splitlines()[0]}", "write it again") from error
    except OSError as error:
        raise unreadable(part, error) from error


def _class_names(part: str) -> tuple[str, ...]:
    """The names behind the numbers of `label`, where `datasets` has written them beside the data."""
    metadata = (_footer(part).metadata or {}).get(b"huggingface")
    if metadata is None:
        return ()
    features = json.loads(metadata).get("info", {}).get("features", {})
    return tuple(features.get("label", {}).get("names", ()))


def _named(source: str, labels: pa.ChunkedArray, names: tuple[str, ...]) -> pa.ChunkedArray:
    """Labels as names.

    Raises:
        JobError: A number has no name.
    """
    if not names:
        return labels
    values = {text: int(text) for text in labels.unique().to_pylist() if text.lstrip("-").isdecimal()}
    strangers = [text for text in labels.unique().to_pylist() if not 0 <= values.get(text, -1) < len(names)]
    if strangers:
        faults = [f"label {text} is not one of the {len(names)} classes that the file names" for text in strangers[:FAULTS_SHOWN]]
        raise source_problems(source, faults, "take these rows out, or name their classes")
    return pa.array(names, pa.string()).take(labels.cast(pa.int64()))


def _rows_of(base: str, part: str, name: bytes, split: str) -> pa.Table:
    """Every row of one file: where it is, and what stands beside its image."""
    schema = _footer(part)
    check_columns(part, schema.names, REQUIRED)
    wanted = [column for column in ("label", *OPTIONAL) if column in schema.names]
    try:
        with open_file(part) as file:
            parquet = pq.ParquetFile(file)
            groups = [parquet.metadata.row_group(number).num_rows for number in range(parquet.num_row_groups)]
            facts = patiently(lambda: parquet.read(columns=wanted), part)
    except (pa.ArrowException, ValueError) as error:
        raise source_problem(part, f"is damaged: {str(error).splitlines()[0]}", "write it again") from error
    except OSError as error:
        raise unreadable(part, error) from error
    rows = facts.num_rows
    chunks = [chunk_id(name, number) for number in range(len(groups))]
    columns = {
        "path": pa.array([b"%b#%d" % (name, row) for row in range(rows)], pa.binary()),
        "file": pa.repeat(pa.scalar(name, pa.binary()), rows),
        "place": pa.array(np.arange(rows, dtype=np.int64)),
        "chunk": pa.array(chunks, pa.binary(8)).take(pa.array(np.repeat(np.arange(len(groups)), groups))),
        "mtime_ns": pa.repeat(pa.scalar(file_facts(base, name)[1], pa.int64()), rows),
    }
    texts = {column: facts[column].cast(pa.string()) for column in wanted}
    if split and "split" not in texts:
        texts["split"] = pa.repeat(split, rows)
    return pa.table(columns | texts)


class RowReader:
    """Reads images row group by row group; those of the last row group are kept."""

    def __init__(self) -> None:
        self._at: tuple[str, int] | None = None
        self._images: pa.Array | None = None
        self._first = 0

    def read(self, part: str, row: int) -> bytes:
        """The bytes of one image; empty where the row holds none.

        Raises:
            FileNotFoundError: The file is not there.
            DataError: It cannot be read, now and some seconds later.
        """
        if self._images is None or self._at is None or self._at[0] != part or not 0 <= row - self._first < len(self._images):
            self._load(part, row)
        assert self._images is not None  # noqa: S101 -- just loaded
        return self._images[row - self._first].as_py() or b""

    def _load(self, part: str, row: int) -> None:
        with open_file(part) as file:
            parquet = pq.ParquetFile(file)
            ends = np.cumsum([parquet.metadata.row_group(number).num_rows for number in range(parquet.num_row_groups)])
            group = int(np.searchsorted(ends, row, "right"))
            column = patiently(lambda: parquet.read_row_group(group, columns=[IMAGE])[IMAGE], part).combine_chunks()
        self._images = pc.struct_field(column, "bytes") if pa.types.is_struct(column.type) else column
        self._first = int(ends[group - 1]) if group else 0
        self._at = (part, group)
