"""The limit: OpenCV alone, one process pinned to each core, on files that lie in memory.

Nothing but the pixel work of prepare: read, decode, crop and resize, encode. What is computed is thrown away. This file is the
program that runs on a core as well; it imports neither Ray nor any of our code.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

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


@dataclass(frozen=True)
class BareTime:
    """What it took."""

    seconds: float
    """From the common start until the last loop is done; starting processes and importing do not count."""
    cpu_s: float
    """Of all loops together."""


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


def run_bare_loops(work: BareWork) -> BareTime:
    """One loop on each core that this process may use, each with its share of the files."""
    cores = sorted(os.sched_getaffinity(0))
    with ExitStack() as ends:
        loops = [ends.enter_context(_start_loop()) for _ in cores]
        for number, (loop, core) in enumerate(zip(loops, cores, strict=True)):
            share = work.files[number :: len(cores)]
            _tell(loop, {"core": core, "files": share, "size": work.size, "store": work.store, "jpeg_quality": work.jpeg_quality})
        for loop in loops:
            _answer(loop)
        started = time.perf_counter()
        for loop in loops:
            _tell(loop, "go")
        answers = [_answer(loop) for loop in loops]
        return BareTime(time.perf_counter() - started, sum(answers))


def _start_loop() -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _tell(loop: subprocess.Popen[str], message: Any) -> None:
    assert loop.stdin
    loop.stdin.write(json.dumps(message) + "\n")
    loop.stdin.flush()


def _answer(loop: subprocess.Popen[str]) -> Any:
    assert loop.stdout
    return json.loads(loop.stdout.readline())


def _reply(message: Any) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _serve() -> None:
    """The program on one core: it is told what to do, says that it is ready, waits for the start, and answers with its CPU time."""
    order = json.loads(sys.stdin.readline())
    os.sched_setaffinity(0, {order["core"]})
    _reply("ready")
    sys.stdin.readline()
    _reply(_work_through(order["files"], order["size"], order["store"], order["jpeg_quality"]))


def _work_through(files: Sequence[str], size: int, store: str, jpeg_quality: int) -> float:
    """CPU seconds of all files."""
    before = time.process_time()
    for file in files:
        work_of(Path(file).read_bytes(), size, store, jpeg_quality)
    return time.process_time() - before


if __name__ == "__main__":
    _serve()
