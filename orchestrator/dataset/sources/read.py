"""The bytes of listed images, whichever kind of source they come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from orchestrator.dataset.listing import MISSING_SIZE, printable
from orchestrator.dataset.sources.rows import RowReader
from orchestrator.dataset.sources.storage import ahead, below, is_address, local_path, read_file
from orchestrator.dataset.units import ListedImage
from orchestrator.errors import DataError

REMOTE_THREADS = 16
"""Images asked for at once where each answer takes its time."""


T = TypeVar("T")


@dataclass(frozen=True)
class LocalImage:
    """An image in a file of this machine, not read yet."""

    path: bytes
    """Of the file."""
    start: int | None
    """The first byte of the image in the file; None where the file is the image."""
    base: str
    listed: ListedImage

    @property
    def size(self) -> int:
        """Bytes of the image."""
        return self.listed.size

    def read(self) -> bytes:
        """Its content.

        Raises:
            DataError: As for `read_images`.
        """
        content = _read(self.base, RowReader(), self.listed)
        assert content is not None  # noqa: S101 -- that is said of images alone that were missing from the first
        return content


def read_images(base: str, images: Sequence[ListedImage]) -> Iterator[bytes | None]:
    """The content of each image, in order; None for one that was missing when it was listed, and still is.

    Args:
        base: What the paths are seen from.
        images: Of one unit, in its order.

    Raises:
        DataError: An image is gone or has changed since it was listed, or the storage fails, now and some seconds later:
            never the fault of one image.
    """
    return _in_order(base, images, partial(_read, base, RowReader()))


def locate_images(base: str, images: Sequence[ListedImage]) -> Iterator[LocalImage | bytes | None]:
    """As `read_images`, but of images in files of this machine the place alone."""
    return _in_order(base, images, partial(_locate, base, RowReader()))


def _in_order(base: str, images: Sequence[ListedImage], do: Callable[[ListedImage], T]) -> Iterator[T]:
    remote = is_address(base) or any(b"://" in image.path for image in images)
    in_chunks = any(image.chunk is not None for image in images)
    return ahead(do, images, threads=REMOTE_THREADS if remote and not in_chunks else 1)


def _locate(base: str, rows: RowReader, image: ListedImage) -> LocalImage | bytes | None:
    path = local_path(base, image.path if image.file is None else image.file)
    if path is None or image.size < 0 or image.chunk is not None:
        return _read(base, rows, image)
    return LocalImage(path, None if image.file is None else image.place, base, image)


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
