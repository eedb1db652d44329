"""Folders of JPEGs of the size and the weight of ImageNet's, made once and kept."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from orchestrator.images.store import encode
from orchestrator.testing import photo

WIDTH, HEIGHT = 500, 375
QUALITY = 88
"""Gives the pictures of `photo` the mean size of ImageNet's files."""
MEAN_BYTES = (85_000, 110_000)
CLASSES = 10
DRAWN = 2_000
"""Pictures that are drawn; larger folders repeat them."""
COMMENT = b"\xff\xfe"
END = b"\xff\xd9"
"""Markers of a JPEG."""


def write_pictures(data: Path, count: int) -> Path:
    """A folder of `count` files, no two of the same bytes; the same count is always the same files.

    Above `DRAWN` the same pictures come again, each time with another comment in the file: drawing one takes 50 ms.
    """
    if count <= DRAWN:
        return _once(data / f"pictures-{count}", partial(_draw_all, count))
    return _once(data / f"pictures-{count}", partial(_copy_all, list_pictures(write_pictures(data, DRAWN)), count))


def list_pictures(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.jpg"))


def mean_bytes(files: Sequence[Path]) -> float:
    """Of one file.

    Raises:
        ValueError: The files are lighter or heavier than photographs of this size are.
    """
    mean = sum(path.stat().st_size for path in files) / len(files)
    if not MEAN_BYTES[0] <= mean <= MEAN_BYTES[1]:
        raise ValueError(f"{mean:,.0f} bytes an image, {MEAN_BYTES[0]:,} to {MEAN_BYTES[1]:,} were expected")
    return mean


def with_comment(jpeg: bytes, text: str) -> bytes:
    """The same picture in other bytes: a comment stands before the end."""
    content = text.encode()
    return jpeg.removesuffix(END) + COMMENT + (len(content) + 2).to_bytes(2, "big") + content + END


def _once(folder: Path, write: Callable[[Path], None]) -> Path:
    """A folder under its name is complete: it is renamed when the last file is there."""
    if not folder.is_dir():
        unfinished = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
        for number in range(CLASSES):
            (unfinished / f"class-{number}").mkdir(parents=True)
        try:
            write(unfinished)
            unfinished.rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _draw_all(count: int, folder: Path) -> None:
    cores = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(cores, multiprocessing.get_context("spawn")) as processes:
        for _ in processes.map(partial(_draw_one, folder), range(count), chunksize=16):
            pass


def _draw_one(folder: Path, number: int) -> None:
    _place(folder, number).write_bytes(encode(photo(np.random.default_rng(number), WIDTH, HEIGHT), "jpeg", QUALITY))


def _copy_all(pictures: list[Path], count: int, folder: Path) -> None:
    for number in range(count):
        _place(folder, number).write_bytes(with_comment(pictures[number % len(pictures)].read_bytes(), f"copy {number:08}"))


def _place(folder: Path, number: int) -> Path:
    return folder / f"class-{number % CLASSES}" / f"{number:08}.jpg"
