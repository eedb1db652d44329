"""The limit: OpenCV alone, one process pinned to each core, on files that lie in memory.

Nothing but the pixel work of prepare: read, decode, crop and resize, encode. What is computed is thrown away. This file is the
program that runs on a core as well; it imports neither Ray nor any of our code.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pinned import PinnedTime, cores, run_pinned, serve

cv2.setNumThreads(0)


@dataclass(frozen=True)
class BareWork:
    """What the loops do."""

    files: tuple[str, ...]
    size: int
    """Side of the result in pixels."""
    store: str
    """`jpeg`, `png` or `raw`."""
    jpeg_quality: int


def work_of(data: bytes, size: int, store: str, jpeg_quality: int) -> NDArray[np.uint8]:
    """One image, with the fewest calls that give what prepare stores. Where OpenCV encodes, colours stay in its own order."""
    flag = cv2.IMREAD_COLOR_RGB if store == "raw" else cv2.IMREAD_COLOR_BGR
    image: NDArray[np.uint8] | None = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    assert image is not None
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    small: NDArray[np.uint8] = cv2.resize(image[top : top + side, left : left + side], (size, size), interpolation=cv2.INTER_AREA)
    if store == "raw":
        return small
    encoded: NDArray[np.uint8]
    if store == "jpeg":
        _, encoded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality])
    else:
        _, encoded = cv2.imencode(".png", small, [cv2.IMWRITE_PNG_COMPRESSION, 3])
    return encoded


def run_bare_loops(work: BareWork) -> PinnedTime:
    """One loop on each core that this process may use, each with its share of the files."""
    loops = len(cores())
    shares = [work.files[number::loops] for number in range(loops)]
    return run_pinned(Path(__file__), [asdict(replace(work, files=share)) for share in shares])


def _work_through(order: dict[str, Any]) -> None:
    for file in order["files"]:
        work_of(Path(file).read_bytes(), order["size"], order["store"], order["jpeg_quality"])


if __name__ == "__main__":
    serve(_work_through)
