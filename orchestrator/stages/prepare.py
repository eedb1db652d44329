"""prepare: listed images become committed shards."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from orchestrator.dataset.commit import Reject, UnitRecord, commit, completed_units, read_rejects, sweep, write_unit_record
from orchestrator.dataset.listing import Listing, printable
from orchestrator.dataset.manifest import Manifest, StoredImage, is_prepared, read_manifest
from orchestrator.dataset.reuse import find_reusable, retried, take_over
from orchestrator.dataset.shards import ShardRows, write_shard
from orchestrator.dataset.sources.read import locate_images
from orchestrator.dataset.units import ListedImage, Unit, lay_out, read_listing, read_unit, units_of, write_listing
from orchestrator.errors import DataError, Interrupted
from orchestrator.images.given import Given
from orchestrator.images.isolated import picture_process
from orchestrator.images.picture import PixelWork, StoredPicture
from orchestrator.images.verdict import Reason, Rejection
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
    recipe: str
    """What is done to the images."""
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
        sweep(request.data, manifest)
        journal.record("DataPrepared", reused=True, **_facts(manifest))
        return manifest
    started = time.perf_counter()
    units = decide_units(request, journal)
    records = completed_units(request.data, units)
    done_before = sum(record.listed for record in records.values())
    if records:
        journal.record("UnitsReused", units=len(records), images=done_before)
    for record in _prepare_missing(request, engine, journal, units, records):
        records[record.unit] = record
        if stop.asked:
            raise Interrupted(f"stopped after {len(records)} of {len(units)} units", "the same command prepares the rest")
    manifest = commit(
        request.data,
        fingerprint=request.fingerprint,
        recipe=request.recipe,
        classes=request.listing.classes,
        units=units,
        records=records,
        skipped=request.listing.skipped,
        image=stored_image(request.spec.image),
    )
    seconds = time.perf_counter() - started
    rate = _rate(request.table.num_rows - done_before, seconds)
    reasons = Counter(reject.reason for record in records.values() for reject in record.rejects)
    journal.record(
        "DataPrepared", reused=False, seconds=round(seconds, 1), images_per_s=rate, reject_reasons=dict(reasons), **_facts(manifest)
    )
    return manifest


def decide_units(request: PrepareRequest, journal: Journal) -> list[Unit]:
    """The units of an earlier start, else new ones; what earlier data has of them is taken over.

    Raises:
        StorageError: The storage is full.
    """
    stored = read_listing(request.data)
    if stored is not None and stored.num_rows == request.table.num_rows:
        return units_of(stored)  # the folder is named by the listing, so it is the same one
    folder, rows = request.data.parent, request.plan.unit_rows
    without = retried(folder, request.fingerprint)
    reuse = find_reusable(folder, request.table, recipe=request.recipe, unit_rows=rows, without=without)
    table = write_listing(request.data, lay_out(request.table, rows, [unit.rows for unit in reuse.units]))
    units = units_of(table)
    if reuse.folder is not None and reuse.units:
        take_over(reuse, request.data, units, table)
        journal.record("UnitsTakenOver", units=len(reuse.units), images=reuse.images, earlier=reuse.folder.name)
    return units


def pixel_work(spec: DataSpec) -> PixelWork:
    """What becomes of each image file."""
    image = spec.image
    return PixelWork(
        size=image.side,
        channels=image.channels,
        fit=image.fit,
        store=image.store,
        jpeg_quality=image.jpeg_quality,
        max_pixels=spec.max_pixels,
        min_side=spec.min_side,
        max_aspect=spec.max_aspect,
        decode_cpu_s=spec.decode_s,
    )


def try_rejects_again(spec: DataSpec, base: str, data: Path) -> tuple[int, list[str]]:
    """How many images of prepared data were rejected, and the ids of those that can be read today.

    Raises:
        StorageError: The listing or the table of rejects is damaged.
        DataError: The storage of the source fails.
    """
    rejected = set(read_rejects(data)["id"].to_pylist())
    units = units_of(stored) if (stored := read_listing(data)) is not None else []
    images = [image for unit in units for image in read_unit(data, unit) if image.id.hex() in rejected]
    taken, _ = _prepare_pictures(PrepareWork(base, data, pixel_work(spec)), images)
    return len(images), [one.source.listed.id.hex() for one in taken]


def stored_image(image: ImageSpec) -> StoredImage:
    return StoredImage(size=image.side, channels=image.channels, store=image.store, fit=image.fit)


def _prepare_missing(
    request: PrepareRequest, engine: Engine, journal: Journal, units: list[Unit], done: dict[int, UnitRecord]
) -> Iterator[UnitRecord]:
    """The records of the missing units as they come in, each announced."""
    missing = [unit for unit in units if unit.index not in done]
    if not missing:
        return
    work = PrepareWork(request.listing.base, request.data, pixel_work(request.spec))
    started, images, total = time.perf_counter(), 0, request.table.num_rows
    before = sum(record.listed for record in done.values())
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
    return _write_unit(work, unit, *_prepare_pictures(work, read_unit(work.data, unit)))


def prepare_units(work: PrepareWork, units: Sequence[Unit]) -> Iterator[UnitRecord]:
    """`prepare_unit` for one unit after the other; while one is written, the pictures of the next one are made.

    Units whose records are on disk already, because a worker was lost and this is its second start, are not prepared again.
    """
    done = completed_units(work.data, units)
    with ThreadPoolExecutor(1) as writer:
        waiting: deque[Future[UnitRecord]] = deque()
        for unit in units:
            if unit.index in done:
                waiting.append(writer.submit(done.__getitem__, unit.index))
            else:
                waiting.append(writer.submit(_write_unit, work, unit, *_prepare_pictures(work, read_unit(work.data, unit))))
            if len(waiting) > 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _write_unit(work: PrepareWork, unit: Unit, taken: list[_Taken], rejects: list[Reject]) -> UnitRecord:
    """The shard, then the record."""
    shard = write_shard(work.data, _shard_rows(taken)) if taken else None
    channels = range(work.pixels.channels if taken else 0)
    record = UnitRecord(
        unit=unit.index,
        split=unit.split,
        listed=unit.stop - unit.start,
        shard=shard.name if shard else "",
        rows=len(taken),
        size_bytes=shard.size_bytes if shard else 0,
        sha256=shard.sha256 if shard else "",
        rejects=tuple(rejects),
        pixels=sum(image.picture.pixels for image in taken),
        sums=tuple(sum(image.picture.sums[channel] for image in taken) for channel in channels),
        squares=tuple(sum(image.picture.squares[channel] for image in taken) for channel in channels),
    )
    write_unit_record(work.data, record)
    return record


@dataclass(frozen=True)
class _Source:
    """An image whose content was read."""

    listed: ListedImage
    size: int
    sha256: str


@dataclass(frozen=True)
class _Taken:
    """An image that became a picture."""

    source: _Source
    picture: StoredPicture


def _prepare_pictures(work: PrepareWork, images: Sequence[ListedImage]) -> tuple[list[_Taken], list[Reject]]:
    """The images that became pictures, in their order, and those that did not."""
    taken: list[_Taken] = []
    rejects: list[Reject] = []
    sent: deque[ListedImage] = deque()

    def given() -> Iterator[Given]:
        """What is not in a file of this machine is read while pictures are made of what came before."""
        for image, found in zip(images, locate_images(work.base, images), strict=True):
            if found is None:
                missing = Rejection(Reason.MISSING, "the manifest names it, and there is no such file")
                rejects.append(_reject(_Source(image, 0, ""), missing))
                continue
            ORIGINALS_READ["images"] += 1
            sent.append(image)
            yield found

    for seen in picture_process().see(given(), work.pixels):
        source = _Source(sent.popleft(), seen.size, seen.sha256)
        if isinstance(seen.result, Rejection):
            rejects.append(_reject(source, seen.result))
        else:
            taken.append(_Taken(source, seen.result))
    return taken, rejects


def _reject(source: _Source, rejection: Rejection) -> Reject:
    path = source.listed.path.decode("utf-8", "surrogateescape")
    return Reject(source.listed.id.hex(), path, source.size, source.sha256, rejection.reason.value, rejection.detail)


def _shard_rows(taken: list[_Taken]) -> ShardRows:
    pictures = [one.picture for one in taken]
    return ShardRows(
        images=[picture.data for picture in pictures],
        paths=[printable(one.source.listed.path) for one in taken],
        labels=np.array([one.source.listed.label for one in taken], np.int64),
        ids=np.frombuffer(b"".join(one.source.listed.id for one in taken), np.uint8).reshape(-1, 16),
        widths=np.array([picture.width for picture in pictures], np.int32),
        heights=np.array([picture.height for picture in pictures], np.int32),
        hashes=[one.source.sha256 for one in taken],
        kinds=[picture.kind for picture in pictures],
        looks=[picture.look for picture in pictures],
    )
