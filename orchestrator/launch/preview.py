"""preview: what the model will see, before anything is prepared: a few images, from their files, in this process.

Their files take the same way as in `prepare`, through the same decoder and the store; what the shards would hold of them takes the
same way as in training.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from orchestrator.dataset.listing import printable
from orchestrator.dataset.sources.read import read_images
from orchestrator.dataset.units import ListedImage
from orchestrator.durable import write_atomically
from orchestrator.errors import DataError, JobError, Problem
from orchestrator.images.isolated import picture_process
from orchestrator.images.sheet import SheetRow, contact_sheet
from orchestrator.images.store import encode
from orchestrator.images.verdict import Reason, Rejection
from orchestrator.launch.images import FoundImages, find_images
from orchestrator.record.folder import Root
from orchestrator.reports.fields import visible
from orchestrator.spec.job import DataSpec, JobSpec
from orchestrator.stages.prepare import pixel_work, stored_image
from orchestrator.stages.preview import headings, taking_turns, views

UNREADABLE_MAX = 50
"""After so many images that cannot be read, no others are tried."""
PIXELS_MAX = 256_000_000
"""In all pictures of a sheet."""
MISSING = Rejection(Reason.MISSING, "the manifest names it, and there is no such file")


@dataclass(frozen=True)
class Previewed:
    """One training image."""

    id: str
    path: str
    name: str
    """Of its class."""
    pictures: NDArray[np.uint8]
    """(1 + epochs, H, W, C), RGB or grey: as it is evaluated, then as each epoch is given it."""


@dataclass(frozen=True)
class _Readable:
    """An image whose file was decoded."""

    listed: ListedImage
    stored: bytes
    """What a shard would hold."""


def preview(job: JobSpec, root: Root, images: int, epochs: int, announce: Callable[[str], None]) -> tuple[Previewed, ...]:
    """Training images of as many classes as possible, in the order of the classes.

    Args:
        job: What is asked for.
        root: Where it is remembered how images were divided before, so that only training images are shown.
        images: At most; fewer where there are not as many.
        epochs: From the first on; no more than the job trains.
        announce: Is told of every image that could not be read.

    Raises:
        JobError: The source cannot be used, or the sheet would be too large.
        DataError: The first images cannot be read, or the storage fails.
        TrainingError: A transform of the user's own failed.
    """
    epochs = min(epochs, job.train.epochs)
    check_size(images, epochs, job.data.image.size)
    found = find_images(job.data, root.data)
    readable = sorted(read_some(job, found, images, announce), key=lambda image: image.listed.label)
    ids = np.frombuffer(b"".join(image.listed.id for image in readable), np.uint8).reshape(-1, 16)
    pictures = views([image.stored for image in readable], ids, stored_image(job.data.image), job, epochs)
    return tuple(
        Previewed(image.listed.id.hex(), printable(image.listed.path), found.listing.classes[image.listed.label], shown)
        for image, shown in zip(readable, pictures, strict=True)
    )


def check_size(images: int, epochs: int, side: int) -> None:
    """Raises:
    JobError: The sheet would need too much memory.
    """
    if images * (1 + epochs) * side**2 > PIXELS_MAX:
        what = f"{images} images in {epochs} epochs of {side} x {side} pixels are too much for one sheet"
        raise JobError((Problem("--images", what),), "ask for fewer images or epochs")


def read_some(job: JobSpec, found: FoundImages, count: int, announce: Callable[[str], None]) -> list[_Readable]:
    """The first `count` training images that can be read, where classes take turns.

    Raises:
        JobError: There are no training images.
        DataError: None can be read.
    """
    table = found.table.filter(pc.equal(found.table["split"], "train"))
    if not table.num_rows:
        raise JobError((Problem(job.data.source, "has no training images"),), "orchestrator plan counts the images of each split")
    ids = np.frombuffer(b"".join(table["id"].to_pylist()), np.uint8).reshape(-1, 16)
    order = taking_turns(table["label"].to_numpy().astype(np.int64), ids)
    readable: list[_Readable] = []
    tried = 0
    while len(readable) < count and tried < len(order) and tried - len(readable) < UNREADABLE_MAX:
        places = order[tried : tried + count - len(readable)]
        tried += len(places)
        listed = [ListedImage(**row) for row in table.select(ListedImage.columns()).take(pa.array(places)).to_pylist()]
        readable += _read(job.data, found.listing.base, listed, announce)
    if not readable:
        raise DataError(f"none of the first {tried} training images in {job.data.source} could be read", "the lines above say why")
    return readable


def _read(data: DataSpec, base: str, listed: list[ListedImage], announce: Callable[[str], None]) -> list[_Readable]:
    contents = list(read_images(base, listed))
    results = iter(list(picture_process().run((content for content in contents if content is not None), pixel_work(data))))
    readable = []
    for image, content in zip(listed, contents, strict=True):
        result = MISSING if content is None else next(results)
        if isinstance(result, Rejection):
            announce(visible(f"skipped {printable(image.path)}, {result.reason}: {result.detail}"))
        else:
            readable.append(_Readable(image, result.data))
    return readable


def write_sheet(path: Path, previewed: tuple[Previewed, ...]) -> None:
    """Write the contact sheet as PNG.

    Raises:
        StorageError: The storage does not take the file.
    """
    rows = [SheetRow(f"{number}   {image.name}", image.pictures) for number, image in enumerate(previewed, start=1)]
    sheet = contact_sheet(rows, headings(len(previewed[0].pictures) - 1))
    write_atomically(path, encode(sheet, "png", 95))
