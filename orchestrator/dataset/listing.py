"""What a source holds: one row for each image, whichever kind of source it is. Paths are bytes, because file names are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from orchestrator.errors import JobError, Problem

EXTENSIONS = frozenset({b".jpg", b".jpeg", b".png", b".webp", b".bmp"})
SPLIT_NAMES = {
    "train": "train",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "dev": "validation",
    "test": "test",
}
CLASSES_MIN = 2
FAULTS_SHOWN = 5
"""Of one kind, in one error."""
ID_BYTES = 16
UNKNOWN_SIZE = -1
"""Of an image inside a file that does not say how long it is before it is read."""
MISSING_SIZE = -2
"""Of an image that a manifest names and nobody can find."""

SCHEMA = pa.schema(
    [
        ("id", pa.binary(ID_BYTES)),  # hash of path and size, or of the id that the source gives
        ("path", pa.binary()),  # names the image: relative to the source where it can be
        ("size", pa.int64()),  # bytes
        ("mtime_ns", pa.int64()),  # of the file that holds the image
        ("label", pa.int32()),
        ("split", pa.string()),  # empty where the source does not say
        ("file", pa.binary()),  # the file that holds the image among others; null where `path` is a file of its own
        ("place", pa.int64()),  # in that file: the byte at which it starts, or its row
        ("chunk", pa.binary(8)),  # hash of the stretch of that file that can only be read as a whole; null where there is none
        ("group", pa.string()),  # images of one group stay on one side of a split; null where each stands for itself
    ]
)


@dataclass(frozen=True)
class Listing:
    """What a source holds."""

    source: str
    """Path or address."""
    base: str
    """What the paths are seen from: a folder, or the address of one."""
    classes: tuple[str, ...]
    table: pa.Table
    """One row an image, with the columns of `SCHEMA`, sorted by path."""
    skipped: dict[str, int]
    """Entries left out, by the name of the rule."""


def sample_id(path: bytes, size: int) -> bytes:
    """16 bytes that name an image: BLAKE2b of its relative path and its size."""
    return hashlib.blake2b(path + b"\0%d" % size, digest_size=ID_BYTES).digest()


def given_id(name: str) -> bytes:
    """16 bytes for an id that the source gives, wherever the image lies."""
    return hashlib.blake2b(name.encode(), digest_size=ID_BYTES, person=b"given id").digest()


def chunk_id(file: bytes, number: int) -> bytes:
    """8 bytes for a stretch of a file, so that stretches are read in an order that has nothing to do with theirs."""
    return hashlib.blake2b(file + b"\0%d" % number, digest_size=8).digest()


def printable(name: bytes) -> str:
    """A file name as text; bytes that are not UTF-8 are written as escapes."""
    return name.decode("utf-8", "backslashreplace")


def extension_of(path: bytes) -> bytes:
    """`.jpg` for `cat/001.JPG`; empty where the name has none."""
    name = path[path.rfind(b"/") + 1 :]
    dot = name.rfind(b".")
    return name[dot:].lower() if dot > 0 else b""


def class_names(labels: Iterable[str]) -> tuple[str, ...]:
    """The classes behind labels that are written as text, in their order: numbers by value, names by letter."""
    names = set(labels)
    if all(name.isdecimal() for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def make_table(columns: Mapping[str, pa.Array | pa.ChunkedArray]) -> pa.Table:
    """A table of `SCHEMA`, sorted by path; columns that are not given are null, splits empty, places 0."""
    rows = len(columns["path"])
    empty = {field.name: pa.nulls(rows, field.type) for field in SCHEMA}
    defaults = {"split": pa.repeat("", rows), "place": pa.repeat(pa.scalar(0, pa.int64()), rows)}
    return pa.table({**empty, **defaults, **columns}, schema=SCHEMA).sort_by("path").combine_chunks()


def source_problem(source: str, what: str, next_step: str) -> JobError:
    return source_problems(source, [what], next_step)


def source_problems(source: str, faults: Sequence[str], next_step: str) -> JobError:
    """Every fault of a source at once."""
    return JobError(tuple(Problem(source, what) for what in faults), next_step)
