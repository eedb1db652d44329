"""One source file to one stored picture: everything that `prepare` does to the bytes of an image."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from orchestrator.images.decode import MAX_ASPECT, MIN_SIDE, decode_frame, refuse
from orchestrator.images.frame import fit_frame
from orchestrator.images.look import look_of
from orchestrator.images.sniff import sniff
from orchestrator.images.store import encode
from orchestrator.images.verdict import Rejection

cv2.setNumThreads(0)

LEVELS = np.arange(256, dtype=np.int64)
SAMPLED_ROWS = 64
"""That the statistics of a picture are taken from, at least: neighbours say the same, and all of them cost as much as hashing the file."""


@dataclass(frozen=True)
class PixelWork:
    """What is asked of every picture of a job."""

    size: int
    """Side of the result in pixels."""
    channels: int
    """3 for RGB, 1 for grey."""
    fit: str
    """`crop`, `pad` or `squash`."""
    store: str
    """`original`, `jpeg`, `png` or `raw`."""
    jpeg_quality: int
    max_pixels: int
    """Larger pictures are rejected by their header; the memory of the process that decodes is limited to what these need."""
    min_side: int = MIN_SIDE
    max_aspect: int = MAX_ASPECT
    decode_cpu_s: int = 20
    """Seconds of CPU time for one picture: a busy machine does not use them up."""
    decode_wall_s: int = 600
    """Seconds on the clock, for a decoder that waits without using the CPU."""


@dataclass(frozen=True)
class StoredPicture:
    """What becomes a row of a shard."""

    data: bytes
    """Encoded as the work asks."""
    width: int
    """Of the source, upright."""
    height: int
    kind: str
    """Format, mode, depth and colour profile of the source."""
    look: bytes
    pixels: int
    """How many were added up."""
    sums: tuple[int, ...]
    """For each channel, over the resized pixels, of large pictures those of every few rows; whole numbers, exact in any order."""
    squares: tuple[int, ...]


def prepare_picture(data: bytes, work: PixelWork) -> StoredPicture | Rejection:
    """Sniff, check, decode, fit, encode and measure an image file; depends on nothing but its arguments."""
    header = sniff(data)
    if isinstance(header, Rejection):
        return header
    refusal = refuse(header, max_pixels=work.max_pixels, min_side=work.min_side, max_aspect=work.max_aspect)
    if refusal:
        return refusal
    fitted = np.empty((work.size, work.size, work.channels), np.uint8)
    upright = decode_frame(data, header, partial(fit_frame, size=work.size, fit=work.fit), fitted)
    if isinstance(upright, Rejection):
        return upright
    height, width = upright
    sampled = fitted[:: max(1, work.size // SAMPLED_ROWS)]
    sums, squares = _add_up(sampled)
    return StoredPicture(
        data=data if work.store == "original" else encode(fitted, work.store, work.jpeg_quality),
        width=width,
        height=height,
        kind=header.kind,
        look=look_of(fitted),
        pixels=sampled.shape[0] * sampled.shape[1],
        sums=sums,
        squares=squares,
    )


def _add_up(image: NDArray[np.uint8]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Sums and sums of squares of the channels, from their histograms: counts are exact on every machine, which OpenCV's norms are not."""
    counts = [cv2.calcHist([image], [channel], None, [256], [0, 256]).ravel().astype(np.int64) for channel in range(image.shape[2])]
    return tuple(int(count @ LEVELS) for count in counts), tuple(int(count @ LEVELS**2) for count in counts)
