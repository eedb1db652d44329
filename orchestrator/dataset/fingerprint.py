"""A name for prepared data: what was listed and what was done to it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc


def fingerprint(table: pa.Table, transform: Mapping[str, object], classes: Sequence[str]) -> str:
    """16 hex digits that change with any listed path, place, size, time stamp, label or split, and with the transform.

    Args:
        table: A listing with every split filled.
        transform: Everything that decides the stored pixels, as plain data.
        classes: Names of the classes, in the order of the labels.
    """
    ordered = table.take(pc.sort_indices(table, [("id", "ascending")])).combine_chunks()
    digest = hashlib.sha256(json.dumps([transform, list(classes)], sort_keys=True).encode())
    digest.update(b"".join(ordered["id"].to_pylist()))
    for name in ("size", "mtime_ns", "label", "place"):
        digest.update(ordered[name].to_numpy().tobytes())
    digest.update("\n".join(ordered["split"].to_pylist()).encode())
    return digest.hexdigest()[:16]


def recipe(transform: Mapping[str, object]) -> str:
    """16 hex digits for what is done to images, whichever they are."""
    return hashlib.sha256(json.dumps(transform, sort_keys=True).encode()).hexdigest()[:16]
