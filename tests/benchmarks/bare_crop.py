"""The limit of ingest: OpenCV alone, one process pinned to each core, on files that lie in memory.

Each loop reads its share of the files in a new order every epoch and writes micro-batches into one array, again and again. This
file is the program that runs on a core as well; it does not import Ray.

By default glibc gives the memory of a decoded image back to the system each time, which then maps and zeroes it anew for the next
one. Loops that keep memory show what OpenCV can do without that.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
from crop import crop_into, empty_batch
from pinned import PinnedTime, cores, run_pinned, serve

M_TOP_PAD = -2
"""Of glibc's `mallopt`: bytes that are asked for, and kept, beyond what is needed."""
KEPT_BYTES = 64 * 2**20


def run_bare_crops(files: list[str], epochs: int, batch: int, *, keep: bool) -> PinnedTime:
    """One loop on each core that this process may use, each with its share of the files; with `keep` they keep memory."""
    loops = len(cores())
    order = {"epochs": epochs, "batch": batch, "keep": keep}
    return run_pinned(Path(__file__), [order | {"files": files[number::loops], "seed": number} for number in range(loops)])


def _work_through(order: dict[str, Any]) -> None:
    if order["keep"]:
        assert ctypes.CDLL(None).mallopt(M_TOP_PAD, KEPT_BYTES)
    rng, images, files = np.random.default_rng(order["seed"]), empty_batch(order["batch"]), order["files"]
    for _ in range(order["epochs"]):
        for place, number in enumerate(rng.permutation(len(files)).tolist()):
            crop_into(images[place % order["batch"]], Path(files[number]).read_bytes(), rng)


if __name__ == "__main__":
    serve(_work_through)
