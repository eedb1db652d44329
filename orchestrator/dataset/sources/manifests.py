"""A manifest: a CSV, TSV, JSON Lines or Parquet file that names images one by one.

Columns: `uri` (an address, or a path as seen from the manifest's folder), `label`, and where wanted `split` (train,
validation, test), `id` (names the image wherever it lies) and `group` (images of one group stay in one split).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq
from numpy.typing import NDArray

from orchestrator.dataset.listing import (
    CLASSES_MIN,
    FAULTS_SHOWN,
    ID_BYTES,
    SPLIT_NAMES,
    Listing,
    class_names,
    given_id,
    make_table,
    sample_id,
    source_problem,
    source_problems,
)
from orchestrator.dataset.sources.storage import ahead, file_facts, folder_of, open_file, unreadable

REQUIRED = ("uri", "label")
OPTIONAL = ("split", "id", "group")
COLUMNS = "columns uri and label, and where wanted split, id and group"
STAT_THREADS = 16
STAT_CHUNK = 2048
"""Images whose size is asked for in one go."""


def list_manifest(source: str) -> Listing:
    """List the images that a manifest names; those that nobody can find are listed as well, and rejected by prepare.

    Raises:
        JobError: The manifest is missing, or not one.
        DataError: It, or the storage it points to, cannot be read.
    """
    table = read_texts(source)
    check_columns(source, table.column_names)
    table, skipped = _usable_rows(source, table)
    classes = class_names(table["label"].to_pylist())
    check_classes(source, classes)
    paths = [uri.encode() for uri in table["uri"].to_pylist()]
    sizes, mtimes = _sizes(source, paths)
    columns = {
        "id": ids_of(table, paths, sizes),
        "path": pa.array(paths, pa.binary()),
        "size": pa.array(sizes),
        "mtime_ns": pa.array(mtimes),
        "label": labels_of(table["label"], classes),
    } | split_and_group(source, table)
    return Listing(source, folder_of(source), classes, make_table(columns), skipped)


def read_texts(source: str) -> pa.Table:
    """All columns of a manifest as texts: what looks like a number may be a name.

    Raises:
        JobError: It is missing, or not a table.
        DataError: It cannot be read.
    """
    try:
        with open_file(source) as file:
            table = _parse(source, file)
    except FileNotFoundError as error:
        raise source_problem(source, "no such file", "name an existing manifest") from error
    except (pa.ArrowException, ValueError, KeyError) as error:
        raise source_problem(source, f"is not a table: {str(error).splitlines()[0]}", f"a manifest has {COLUMNS}") from error
    except OSError as error:
        raise unreadable(source, error) from error
    known = [name for name in (*REQUIRED, *OPTIONAL) if name in table.column_names]
    texts = {name: pc.utf8_trim_whitespace(table[name].cast(pa.string())) for name in known}
    others = {name: table[name] for name in table.column_names if name not in known}
    return pa.table(texts | others)


def _parse(source: str, file: pa.NativeFile) -> pa.Table:
    name = source.partition("?")[0].lower()
    if name.endswith(".parquet"):
        return pq.read_table(file)
    if name.endswith((".jsonl", ".ndjson")):
        return pa.json.read_json(file)
    delimiter = "\t" if name.endswith(".tsv") else ","
    texts = pa.csv.ConvertOptions(
        column_types=dict.fromkeys((*REQUIRED, *OPTIONAL), pa.string()), strings_can_be_null=True, null_values=[""]
    )
    parse = pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    return pa.csv.read_csv(file, parse_options=parse, convert_options=texts)


def check_columns(source: str, names: Sequence[str], required: Sequence[str] = REQUIRED) -> None:
    missing = [name for name in required if name not in names]
    if missing:
        what = f"has no column {' and no column '.join(missing)}; its columns are {', '.join(names) or 'none'}"
        raise source_problem(source, what, f"a manifest has {COLUMNS}")


def check_classes(source: str, classes: tuple[str, ...]) -> None:
    if not classes:
        raise source_problem(source, "names no image with a label", "add images")
    if len(classes) < CLASSES_MIN:
        raise source_problem(
            source, f"only one class: {classes[0]}; telling classes apart needs at least two", "add images of another class"
        )


def _usable_rows(source: str, table: pa.Table) -> tuple[pa.Table, dict[str, int]]:
    """Rows that name an image and its class, each image once."""
    skipped: Counter[str] = Counter()
    table = without_nulls(table, "uri", "uri_missing", skipped)
    table = without_nulls(table, "label", "label_missing", skipped)
    order = pc.sort_indices(table, [("uri", "ascending")])
    ordered = table.take(order)
    if ordered.num_rows:
        same = pc.equal(ordered["uri"][1:], ordered["uri"][:-1]).to_numpy()
        differs = [name for name in ("label", "split") if name in table.column_names]
        _check_repeated(source, ordered, same, differs)
        if same.any():
            skipped["named_twice"] = int(same.sum())
            table = ordered.filter(pa.array(~np.r_[False, same]))
    return table, dict(sorted(skipped.items()))


def without_nulls(table: pa.Table, name: str, rule: str, skipped: Counter[str]) -> pa.Table:
    """Without the rows that have nothing in a column; they are counted under a rule."""
    given = pc.and_(pc.is_valid(table[name]), pc.not_equal(pc.fill_null(table[name], ""), ""))
    kept = table.filter(given)
    if kept.num_rows < table.num_rows:
        skipped[rule] += table.num_rows - kept.num_rows
    return kept


def _check_repeated(source: str, ordered: pa.Table, same: NDArray[np.bool_], names: list[str]) -> None:
    """Raises:
    JobError: An image is named twice, and differently.
    """
    faults = []
    for name in names:
        values = pc.fill_null(ordered[name], "")
        unlike = np.flatnonzero(same & pc.not_equal(values[1:], values[:-1]).to_numpy())
        faults += [f"{ordered['uri'][row]} has {name} {values[row]} and {name} {values[row + 1]}" for row in unlike[:FAULTS_SHOWN].tolist()]
    if faults:
        raise source_problems(source, faults, "name each image once")


def _sizes(source: str, paths: list[bytes]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Bytes and time of change of each file."""
    base = folder_of(source)
    chunks = [paths[start : start + STAT_CHUNK] for start in range(0, len(paths), STAT_CHUNK)]
    found = ahead(lambda chunk: [file_facts(base, path) for path in chunk], chunks, threads=min(STAT_THREADS, len(chunks)))
    facts = np.array(list(chain.from_iterable(found)), np.int64).reshape(-1, 2)
    return facts[:, 0], facts[:, 1]


def ids_of(table: pa.Table, paths: list[bytes], sizes: NDArray[np.int64]) -> pa.Array:
    """Hashes of the ids that the source gives, else of path and size."""
    given = table["id"].to_pylist() if "id" in table.column_names else [None] * len(paths)
    found = (given_id(name) if name else sample_id(path, size) for name, path, size in zip(given, paths, sizes.tolist(), strict=True))
    return pa.array(list(found), pa.binary(ID_BYTES))


def labels_of(labels: pa.ChunkedArray, classes: tuple[str, ...]) -> pa.ChunkedArray:
    return pc.index_in(labels, pa.array(classes, pa.string())).cast(pa.int32())


def split_and_group(source: str, table: pa.Table) -> dict[str, pa.ChunkedArray]:
    """The columns `split` and `group` of a listing, where the source has them.

    Raises:
        JobError: A split has another name than train, validation and test.
    """
    columns = {}
    if "group" in table.column_names:
        columns["group"] = table["group"]
    if "split" in table.column_names:
        names = pc.fill_null(table["split"], "")
        unknown = [name for name in names.unique().to_pylist() if name and name not in SPLIT_NAMES]
        if unknown:
            what = f"names splits that are not train, validation or test: {', '.join(unknown[:FAULTS_SHOWN])}"
            raise source_problem(source, what, "rename them, or leave the column out to have the images divided")
        known = pa.array(["", *SPLIT_NAMES], pa.string())
        columns["split"] = pa.array(["", *SPLIT_NAMES.values()], pa.string()).take(pc.index_in(names, known).combine_chunks())
    return columns
