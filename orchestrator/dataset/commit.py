"""From finished units to a data set that is there all at once.

A unit counts when its record is on disk, and the record is written after the shard. The data set exists when the
manifest does: one file, created exclusively, so that of two writers one wins and the other finds the same content. The
rejects, which the manifest names, are created the same way just before. Killed anywhere and run again, no row is lost and
none is there twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.dataset.manifest import MANIFEST, Manifest, PixelStatistics, Shard, StoredImage, is_prepared
from orchestrator.dataset.shards import SHARDS
from orchestrator.dataset.splits import SPLITS
from orchestrator.dataset.units import LISTING, Unit
from orchestrator.durable import create_once, discard, storage_error, sweep_temporaries, sync_name, write_atomically
from orchestrator.errors import StorageError

UNITS = "units"
REJECTS = "rejects.parquet"
REJECT_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("path", pa.binary()),
        ("size", pa.int64()),
        ("sha256", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)


@dataclass(frozen=True)
class Reject:
    """An image that was not taken."""

    id: str
    """32 hex digits."""
    path: str
    """Relative to the source; bytes that are not UTF-8 are kept as surrogates."""
    size: int
    sha256: str
    reason: str
    detail: str


@dataclass(frozen=True)
class UnitRecord:
    """What became of a unit."""

    unit: int
    split: str
    listed: int
    shard: str
    """Name of the shard file; empty when no image of the unit was taken."""
    rows: int
    size_bytes: int
    sha256: str
    rejects: tuple[Reject, ...]
    pixels: int
    """Pixels of each channel."""
    sums: tuple[int, ...]
    squares: tuple[int, ...]
    """Of the pixel values 0 to 255, for each channel: integers, so that adding them up is exact in any order."""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> UnitRecord:
        value = json.loads(text)
        value["rejects"] = tuple(Reject(**reject) for reject in value["rejects"])
        return cls(**value | {"sums": tuple(value["sums"]), "squares": tuple(value["squares"])})


def write_unit_record(folder: Path, record: UnitRecord) -> None:
    """The last step of a unit; its shard is on disk already."""
    write_atomically(folder / UNITS / f"{record.unit:08d}.json", record.to_json().encode())


def completed_units(folder: Path, units: Sequence[Unit]) -> dict[int, UnitRecord]:
    """The units that an earlier start finished and whose shards are still there.

    Raises:
        StorageError: The storage does not say.
    """
    found = (_read_record(folder, unit) for unit in units)
    return {record.unit: record for record in found if record is not None}


def _read_record(folder: Path, unit: Unit) -> UnitRecord | None:
    path = folder / UNITS / f"{unit.index:08d}.json"
    try:
        record = UnitRecord.from_json(path.read_text())
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None  # not finished, or not by this version: the unit is prepared again
    except OSError as error:
        raise storage_error(error, path, "read") from error
    if record.shard and not _is_there(folder, record):
        return None
    return record if (record.unit, record.split, record.listed) == (unit.index, unit.split, unit.stop - unit.start) else None


def commit(
    folder: Path,
    *,
    fingerprint: str,
    recipe: str,
    classes: Sequence[str],
    units: Sequence[Unit],
    records: Mapping[int, UnitRecord],
    skipped: Mapping[str, int],
    image: StoredImage,
) -> Manifest:
    """Make the data set visible.

    Raises:
        StorageError: A unit or a shard is missing, the totals do not match the listing, or another writer committed
            something else; what that writer committed stays as it is.
    """
    ordered = _check_complete(units, records)
    _check_shards(folder, ordered)
    rejects = [reject for record in ordered for reject in record.rejects]
    content = _rejects_file(rejects)
    manifest = Manifest(
        fingerprint=fingerprint,
        recipe=recipe,
        classes=tuple(classes),
        splits={split: sum(record.rows for record in ordered if record.split == split) for split in SPLITS},
        rejects=len(rejects),
        skipped=dict(skipped),
        image=image,
        pixels=_pixel_statistics([record for record in ordered if record.split == "train"], image.channels),
        shards=tuple(Shard(record.shard, record.rows, record.sha256, record.split) for record in ordered if record.rows),
        files={REJECTS: hashlib.sha256(content).hexdigest(), UNITS: _digest(record.to_json().encode() for record in ordered)}
        | _listing_hash(folder),
    )
    _create(folder / REJECTS, content)
    for made in (folder, folder.parent):
        sync_name(made)  # everything on the way to the manifest lasts before it is there
    _create(folder / MANIFEST, manifest.to_bytes())
    sweep(folder, manifest)
    return manifest


def units_digest(folder: Path) -> str:
    """SHA-256 of all unit records as they are on disk.

    Raises:
        StorageError: The storage does not say.
    """
    try:
        return _digest(path.read_bytes() for path in sorted((folder / UNITS).glob("*.json")))
    except OSError as error:
        raise storage_error(error, folder / UNITS, "read") from error


def _digest(records: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for record in records:
        digest.update(record + b"\n")
    return digest.hexdigest()


def _check_complete(units: Sequence[Unit], records: Mapping[int, UnitRecord]) -> list[UnitRecord]:
    missing = [unit.index for unit in units if unit.index not in records]
    short = [unit.index for unit in units if unit.index in records and _accounted(records[unit.index]) != unit.stop - unit.start]
    if missing or short:
        raise StorageError(
            f"the data set is not complete: units without a record {missing[:5]}, units that lost images {short[:5]}",
            "run the same command again; finished units are kept",
        )
    return [records[unit.index] for unit in units]


def _check_shards(folder: Path, records: Sequence[UnitRecord]) -> None:
    """A worker on another machine may have written to a folder of its own; a writer that won has removed what it does not name."""
    lost = [record.shard for record in records if record.shard and not _is_there(folder, record)]
    if lost and is_prepared(folder):
        raise _conflict(folder)
    if lost:
        raise StorageError(
            f"{len(lost)} shards that workers wrote are not in {folder / SHARDS}, for example {lost[0]}",
            "place the data folder on storage that all machines share, with --root, and run the same command again",
        )


def _is_there(folder: Path, record: UnitRecord) -> bool:
    path = folder / SHARDS / record.shard
    try:
        return path.stat().st_size == record.size_bytes
    except FileNotFoundError:
        return False
    except OSError as error:
        raise storage_error(error, path, "read") from error


def _accounted(record: UnitRecord) -> int:
    return record.rows + len(record.rejects)


def _pixel_statistics(records: Sequence[UnitRecord], channels: int) -> PixelStatistics:
    """Mean and standard deviation; 0 and 1 where there is no pixel, and never a deviation of 0."""
    count = sum(record.pixels for record in records)
    if not count:
        return PixelStatistics((0.0,) * channels, (1.0,) * channels)
    sums = [sum(record.sums[channel] for record in records if record.sums) for channel in range(channels)]
    squares = [sum(record.squares[channel] for record in records if record.squares) for channel in range(channels)]
    means = [total / count / 255 for total in sums]
    variances = [max(0, square * count - total * total) / count**2 / 255**2 for square, total in zip(squares, sums, strict=True)]
    return PixelStatistics(tuple(means), tuple(max(variance**0.5, 1 / 255) for variance in variances))


def _listing_hash(folder: Path) -> dict[str, str]:
    path = folder / LISTING
    try:
        with path.open("rb") as file:
            return {LISTING: hashlib.file_digest(file, "sha256").hexdigest()}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise storage_error(error, path, "read") from error


def read_rejects(folder: Path) -> pa.Table:
    """The images of prepared data that were not taken, with the columns of `REJECT_SCHEMA`.

    Raises:
        StorageError: The table is missing or damaged.
    """
    path = folder / REJECTS
    try:
        return pq.read_table(path, page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        raise StorageError(f"cannot read {path}: {str(error).splitlines()[0]}", f"delete {folder} and run the job again") from error


def _rejects_file(rejects: Sequence[Reject]) -> bytes:
    columns = {name: [getattr(reject, name) for reject in rejects] for name in REJECT_SCHEMA.names}
    columns["path"] = [path.encode("utf-8", "surrogateescape") for path in columns["path"]]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns, schema=REJECT_SCHEMA), sink, write_page_checksum=True)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _create(path: Path, content: bytes) -> None:
    """Who comes second with something else must not change what the first one committed, or is about to."""
    if not create_once(path, content):
        raise _conflict(path.parent)


def _conflict(folder: Path) -> StorageError:
    return StorageError(f"another writer committed something else to {folder}", "delete the folder and run the job again")


def sweep(folder: Path, manifest: Manifest) -> None:
    """Remove what killed writers left behind: temporary files, and shards that the data set does not name.

    Only after the manifest is there: until then the shards may be those of another writer that is about to commit.
    """
    for place in (folder, folder / SHARDS, folder / UNITS):
        sweep_temporaries(place)
    named = {shard.name for shard in manifest.shards}
    for path in (folder / SHARDS).glob("*.parquet"):
        if path.name not in named:
            discard(path)
