"""The bytes of listed images, whichever kind of source they come from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from orchestrator.dataset.listing import MISSING_SIZE, printable
from orchestrator.dataset.sources.rows import RowReader
from orchestrator.dataset.sources.storage import ahead, below, is_address, read_file
from orchestrator.dataset.units import ListedImage
from orchestrator.errors import DataError

REMOTE_THREADS = 16
"""Images asked for at once where each answer takes its time."""


def read_images(base: str, images: Sequence[ListedImage]) -> Iterator[bytes | None]:
    """The content of each image, in order; None for one that was missing when it was listed, and still is.

    Args:
        base: What the paths are seen from.
        images: Of one unit, in its order.

    Raises:
        DataError: An image is gone or has changed since it was listed, or the storage fails, now and some seconds later:
            never the fault of one image.
    """
    remote = is_address(base) or any(b"://" in image.path for image in images)
    in_chunks = any(image.chunk is not None for image in images)
    yield from ahead(partial(_read, base, RowReader()), images, threads=REMOTE_THREADS if remote and not in_chunks else 1)


def _read(base: str, rows: RowReader, image: ListedImage) -> bytes | None:
    try:
        content = _content(base, rows, image)
    except FileNotFoundError as error:
        if image.size == MISSING_SIZE:
            return None
        raise DataError(f"cannot read {_name(base, image)}: no such file", "it was listed before; run the same command again") from error
    if (image.size >= 0 and len(content) != image.size) or image.size == MISSING_SIZE:
        raise DataError(
            f"{_name(base, image)} has {len(content)} bytes, {max(image.size, 0)} when it was listed",
            "let nothing write to the source and run the same command again",
        )
    return content


def _content(base: str, rows: RowReader, image: ListedImage) -> bytes:
    if image.file is None:
        return read_file(base, image.path)
    if image.chunk is None:
        return read_file(base, image.file, start=image.place, size=image.size)
    return rows.read(below(base, image.file), image.place)


def _name(base: str, image: ListedImage) -> str:
    return f"{base.rstrip('/')}/{printable(image.path)}"
