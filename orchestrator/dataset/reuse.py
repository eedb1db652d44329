"""A collection that has changed a little: what was prepared of it before is taken over, unit by unit.

Earlier data counts when it was made by the same recipe. A unit of it is taken over when every one of its images is still
listed as it was: its shard is linked, its record copied, and no image of it is read.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from orchestrator.dataset.commit import UNITS, UnitRecord, completed_units, units_digest, write_unit_record
from orchestrator.dataset.manifest import MANIFEST, read_manifest
from orchestrator.dataset.shards import SHARDS
from orchestrator.dataset.units import Unit, read_listing, units_of
from orchestrator.durable import read_json, storage_error, sync_folder, write_atomically, write_json
from orchestrator.errors import StorageError

SUPERSEDED = "superseded.json"
CANDIDATES_MAX = 8
"""Earlier data sets that are looked at, the newest ones."""
COMPARED = ("size", "mtime_ns", "label", "split", "file", "place", "chunk")
"""What must not have changed of an image."""
SMALL_MAX = 8
"""Units of a split that may be less than half full; with more of them, their images form new units."""


@dataclass(frozen=True)
class KeptUnit:
    """A unit of earlier data."""

    rows: NDArray[np.int64]
    """Its images in the listing of today, in the order of its shard."""
    first: bytes
    """Id of the first of them."""
    record: UnitRecord


@dataclass(frozen=True)
class Reuse:
    """What is taken over."""

    folder: Path | None
    """The earlier data; None where there is none."""
    units: tuple[KeptUnit, ...]

    @property
    def images(self) -> int:
        return sum(len(unit.rows) for unit in self.units)


NOTHING = Reuse(None, ())


def current(data: Path, fingerprint: str) -> str:
    """The data that stands for a fingerprint today: other data, when rejected images were tried again and some were taken."""
    seen = {fingerprint}
    while (later := data / fingerprint / SUPERSEDED).is_file():
        fingerprint = str(read_json(later)["by"])
        if fingerprint in seen:
            raise StorageError(f"{later} leads in a circle", f"delete {later} and run the same command again")
        seen.add(fingerprint)
    return fingerprint


def supersede(data: Path, fingerprint: str, by: str, taken: Sequence[str]) -> None:
    """Let other data stand for a fingerprint from now on; runs on the earlier data stay whole.

    Args:
        data: The folder that holds all prepared data.
        fingerprint: Of the earlier data.
        by: Fingerprint of the other data, which need not be prepared yet.
        taken: Ids, as 32 hex digits, of the images that were rejected in the earlier data and are not any more.

    Raises:
        StorageError: The storage is full or does not take the file.
    """
    write_json(data / fingerprint / SUPERSEDED, {"by": by, "taken": list(taken)})


def retried(data: Path, fingerprint: str) -> set[str]:
    """The images for whose sake some data superseded earlier data."""
    pointers = [read_json(path) for path in data.glob(f"*/{SUPERSEDED}")]
    return {identity for pointer in pointers if pointer["by"] == fingerprint for identity in pointer["taken"]}


def find_reusable(data: Path, table: pa.Table, *, recipe: str, unit_rows: int, without: Collection[str] = ()) -> Reuse:
    """The earlier data that has most in common with a listing.

    Args:
        data: The folder that holds all prepared data.
        table: The listing of today, every split filled.
        recipe: How images are prepared today.
        unit_rows: Images in a full unit.
        without: Ids, as 32 hex digits, of images whose units are prepared again.
    """
    manifests = sorted(data.glob(f"*/{MANIFEST}"), key=lambda path: -path.stat().st_mtime_ns)
    candidates = [path.parent for path in manifests if _sound_recipe(path.parent) == recipe][:CANDIDATES_MAX]
    found = [_common(folder, table, unit_rows, frozenset(without)) for folder in candidates]
    return max(found, key=lambda reuse: reuse.images, default=NOTHING)


def _sound_recipe(folder: Path) -> str:
    """The recipe of earlier data; empty when its manifest or its records are damaged, so that nothing is taken from it."""
    try:
        manifest = read_manifest(folder)
        return manifest.recipe if units_digest(folder) == manifest.files.get(UNITS) else ""
    except StorageError:
        return ""


def _common(folder: Path, table: pa.Table, unit_rows: int, without: frozenset[str]) -> Reuse:
    earlier = read_listing(folder)
    if earlier is None:
        return NOTHING
    units = units_of(earlier)
    places = pc.index_in(earlier["id"], table["id"].combine_chunks()).combine_chunks()
    same = pc.is_valid(places).to_numpy(zero_copy_only=False)
    today = table.take(pc.fill_null(places, 0))
    for name in COMPARED:
        equal = pc.or_(
            pc.fill_null(pc.equal(today[name], earlier[name]), False), pc.and_(pc.is_null(today[name]), pc.is_null(earlier[name]))
        )
        same &= equal.to_numpy()
    rows = pc.fill_null(places, 0).to_numpy().astype(np.int64)
    records = completed_units(folder, units)
    first = earlier["id"].take(pa.array([unit.start for unit in units], pa.int64())).to_pylist()
    kept = [
        KeptUnit(rows[unit.start : unit.stop], first[unit.index], records[unit.index])
        for unit in units
        if same[unit.start : unit.stop].all() and unit.index in records and not without & _rejected(records[unit.index])
    ]
    return Reuse(folder, tuple(_without_small(kept, unit_rows)))


def _rejected(record: UnitRecord) -> set[str]:
    return {reject.id for reject in record.rejects}


def _without_small(kept: Sequence[KeptUnit], unit_rows: int) -> list[KeptUnit]:
    """Without the small units of a split that has many, or a collection that grows day by day would end in crumbs."""
    small = Counter(unit.record.split for unit in kept if 2 * len(unit.rows) < unit_rows)
    return [unit for unit in kept if 2 * len(unit.rows) >= unit_rows or small[unit.record.split] <= SMALL_MAX]


def take_over(reuse: Reuse, folder: Path, units: Sequence[Unit], table: pa.Table) -> None:
    """Link the shards of the kept units and write their records, each where the new layout has it.

    Args:
        reuse: What is taken over.
        folder: The new data.
        units: Of the new layout.
        table: The new layout.

    Raises:
        StorageError: The storage is full or does not take a file.
    """
    if reuse.folder is None:
        return
    at_start = table["id"].take(pa.array([unit.start for unit in units], pa.int64())).to_pylist()
    numbers = {identity: unit.index for identity, unit in zip(at_start, units, strict=True)}
    for kept in (unit for unit in reuse.units if unit.first in numbers):
        if kept.record.shard:
            _link(reuse.folder / SHARDS / kept.record.shard, folder / SHARDS / kept.record.shard)
        write_unit_record(folder, replace(kept.record, unit=numbers[kept.first]))


def _link(there: Path, here: Path) -> None:
    """The same file under a second name; a copy where the storage knows no links."""
    try:
        here.parent.mkdir(parents=True, exist_ok=True)
        os.link(there, here)
        sync_folder(here.parent)
    except FileExistsError:
        return
    except OSError:
        try:
            content = there.read_bytes()
        except OSError as error:
            raise storage_error(error, there) from error
        write_atomically(here, content)
