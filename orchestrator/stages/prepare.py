"""prepare: listed images become committed shards."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from orchestrator.dataset.commit import Reject, UnitRecord, commit, completed_units, write_unit_record
from orchestrator.dataset.listing import Listing
from orchestrator.dataset.manifest import Manifest, StoredImage, is_prepared, read_manifest
from orchestrator.dataset.shards import ShardRows, write_shard
from orchestrator.dataset.units import ListedImage, Unit, cut_units, read_unit, write_listing
from orchestrator.errors import DataError, Interrupted
from orchestrator.images.decode import decode
from orchestrator.images.look import look_of
from orchestrator.images.resize import fit_image
from orchestrator.images.sniff import Header, sniff
from orchestrator.images.store import encode
from orchestrator.images.verdict import Rejection
from orchestrator.plan.values import PreparePlan
from orchestrator.record.journal import Journal
from orchestrator.spec.job import DataSpec, ImageSpec
from orchestrator.stages.engine import Engine, PrepareWork
from orchestrator.stages.stopping import StopRequest

ORIGINALS_READ: Counter[str] = Counter()
"""Original images that this process has read; a trial proves with it that it read none."""


@dataclass(frozen=True)
class PrepareRequest:
    """What is to be prepared."""

    spec: DataSpec
    data: Path
    """The folder of the prepared data; named by the fingerprint."""
    fingerprint: str
    listing: Listing
    table: pa.Table
    """The listing, with a split for every image."""
    plan: PreparePlan


def prepare_data(request: PrepareRequest, engine: Engine, journal: Journal, stop: StopRequest) -> Manifest:
    """Prepare what is not prepared yet and commit it; units finished by an earlier start are kept.

    Raises:
        DataError: No image could be read, or the source changed while it was read.
        Interrupted: The user asked to stop; finished units are kept.
        StorageError: The storage is full, or another writer committed something else.
    """
    if is_prepared(request.data):
        manifest = read_manifest(request.data)
        journal.record("DataPrepared", reused=True, **_facts(manifest))
        return manifest
    started = time.perf_counter()
    units = cut_units(request.table, request.plan.unit_rows)
    write_listing(request.data, request.table)
    records = completed_units(request.data, units)
    if records:
        journal.record("UnitsReused", units=len(records))
    for record in _prepare_missing(request, engine, journal, units, records):
        records[record.unit] = record
        if stop.asked:
            raise Interrupted(f"stopped after {len(records)} of {len(units)} units", "the same command prepares the rest")
    manifest = commit(
        request.data,
        fingerprint=request.fingerprint,
        classes=request.listing.classes,
        units=units,
        records=records,
        skipped=request.listing.skipped,
        image=stored_image(request.spec.image),
    )
    seconds = time.perf_counter() - started
    rate = _rate(request.table.num_rows, seconds)
    reasons = Counter(reject.reason for record in records.values() for reject in record.rejects)
    journal.record(
        "DataPrepared", reused=False, seconds=round(seconds, 1), images_per_s=rate, reject_reasons=dict(reasons), **_facts(manifest)
    )
    return manifest


def stored_image(image: ImageSpec) -> StoredImage:
    return StoredImage(size=image.size, channels=image.channels, store=image.store, fit=image.fit)


def _prepare_missing(
    request: PrepareRequest, engine: Engine, journal: Journal, units: list[Unit], done: dict[int, UnitRecord]
) -> Iterator[UnitRecord]:
    """The records of the missing units as they come in, each announced."""
    missing = [unit for unit in units if unit.index not in done]
    if not missing:
        return
    work = PrepareWork(Path(request.spec.source), request.data, request.spec.image, request.spec.max_pixels)
    started, images, total = time.perf_counter(), 0, request.table.num_rows
    before = sum(record.rows + len(record.rejects) for record in done.values())
    for number, record in enumerate(engine.prepare(work, missing, request.plan.parallel), start=len(done) + 1):
        images += record.rows + len(record.rejects)
        rate = _rate(images, time.perf_counter() - started)
        journal.record(
            "UnitPrepared",
            unit=record.unit,
            rows=record.rows,
            rejects=len(record.rejects),
            done=number,
            units=len(units),
            images=before + images,
            total_images=total,
            images_per_s=rate,
            eta_s=round((total - before - images) / rate, 1) if rate else 0.0,
        )
        yield record


def _rate(count: int, seconds: float) -> float:
    return round(count / seconds, 1) if seconds else 0.0


def _facts(manifest: Manifest) -> dict[str, object]:
    return {
        "fingerprint": manifest.fingerprint,
        "rows": sum(manifest.splits.values()),
        "rejects": manifest.rejects,
        "splits": dict(manifest.splits),
        "skipped": dict(manifest.skipped),
    }


def check_rejects(manifest: Manifest, spec: DataSpec, data: Path) -> None:
    """Raises:
    DataError: More images are unreadable than the job allows, or all of them.
    """
    rows = sum(manifest.splits.values())
    listed = rows + manifest.rejects
    rejects = data / "rejects.parquet"
    if not rows:
        raise DataError(f"none of the {listed:,} images in {spec.source} could be read", f"the reasons are in {rejects}")
    share = manifest.rejects / listed
    if share > spec.max_bad_fraction:
        raise DataError(
            f"{manifest.rejects:,} of {listed:,} images could not be read ({share:.1%}); "
            f"data.max_bad_fraction allows {spec.max_bad_fraction:.1%}",
            f"the reasons are in {rejects}; remove those files, or raise data.max_bad_fraction",
        )


def prepare_unit(work: PrepareWork, unit: Unit) -> UnitRecord:
    """Read, decode, resize and store the images of one unit; its record is on disk when this returns.

    Raises:
        DataError: A listed file is gone or has changed, or the storage of the source fails: never the fault of one image.
        StorageError: The storage of the prepared data is full.
    """
    taken: list[_Taken] = []
    rejects: list[Reject] = []
    for listed in read_unit(work.data, unit):
        data = _read_source(work.source, listed)
        image = decode(data, channels=work.image.channels, max_pixels=work.max_pixels)
        if isinstance(image, Rejection):
            rejects.append(_reject(listed, data, image))
        else:
            height, width = image.shape[:2]
            taken.append(_Taken(listed, fit_image(image, work.image.size, work.image.fit), width, height, _kind(data), _digest(data)))
    shard = write_shard(work.data, _shard_rows(work, taken)) if taken else None
    pixels = np.stack([image.pixels for image in taken]).reshape(-1, work.image.channels) if taken else np.empty((0, 0), np.uint8)
    record = UnitRecord(
        unit=unit.index,
        split=unit.split,
        listed=unit.stop - unit.start,
        shard=shard.name if shard else "",
        rows=len(taken),
        size_bytes=shard.size_bytes if shard else 0,
        sha256=shard.sha256 if shard else "",
        rejects=tuple(rejects),
        pixels=len(pixels),
        sums=tuple(int(value) for value in pixels.sum(axis=0, dtype=np.int64)),
        squares=tuple(int(value) for value in _sum_of_squares(pixels)),
    )
    write_unit_record(work.data, record)
    return record


def _sum_of_squares(pixels: NDArray[np.uint8]) -> list[int]:
    """For each channel, from the histogram: no wider copy of the pixels is made."""
    values = np.arange(256, dtype=np.int64) ** 2
    return [int(np.bincount(pixels[:, channel], minlength=256) @ values) for channel in range(pixels.shape[1])]


def _read_source(source: Path, listed: ListedImage) -> bytes:
    path = source / _text(listed)
    try:
        data = path.read_bytes()
        ORIGINALS_READ["images"] += 1
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", "it was listed before; run the same command again") from error
    if len(data) != listed.size:
        raise DataError(
            f"{path} has {len(data)} bytes, {listed.size} when it was listed",
            "let nothing write to the source and run the same command again",
        )
    return data


def _text(listed: ListedImage) -> str:
    """The path as the file system takes it back: bytes that are not UTF-8 become surrogates."""
    return listed.path.decode("utf-8", "surrogateescape")


def _reject(listed: ListedImage, data: bytes, rejection: Rejection) -> Reject:
    return Reject(listed.id.hex(), _text(listed), listed.size, _digest(data), rejection.reason.value, rejection.detail)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _kind(data: bytes) -> str:
    header = sniff(data)
    return header.kind if isinstance(header, Header) else ""


@dataclass(frozen=True)
class _Taken:
    """An image that was decoded."""

    listed: ListedImage
    pixels: NDArray[np.uint8]
    """(size, size, channels)."""
    width: int
    """Of the source."""
    height: int
    kind: str
    sha256: str


def _shard_rows(work: PrepareWork, taken: list[_Taken]) -> ShardRows:
    image = work.image
    return ShardRows(
        images=[encode(one.pixels, image.store, image.jpeg_quality) for one in taken],
        paths=[one.listed.path.decode("utf-8", "backslashreplace") for one in taken],
        labels=np.array([one.listed.label for one in taken], np.int64),
        ids=np.frombuffer(b"".join(one.listed.id for one in taken), np.uint8).reshape(-1, 16),
        widths=np.array([one.width for one in taken], np.int32),
        heights=np.array([one.height for one in taken], np.int32),
        hashes=[one.sha256 for one in taken],
        kinds=[one.kind for one in taken],
        looks=[look_of(one.pixels) for one in taken],
    )
