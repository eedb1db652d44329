"""The limit of ingest: OpenCV alone, one process pinned to each core, on files that lie in memory.

Each loop reads its share of the files in a new order every epoch and writes micro-batches into one array, again and again. This
file is the program that runs on a core as well; it does not import Ray.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from crop import crop_into, empty_batch
from pinned import PinnedTime, cores, run_pinned, serve


def run_bare_crops(files: list[str], epochs: int, batch: int) -> PinnedTime:
    """One loop on each core that this process may use, each with its share of the files."""
    loops = len(cores())
    return run_pinned(
        Path(__file__), [{"files": files[number::loops], "epochs": epochs, "batch": batch, "seed": number} for number in range(loops)]
    )


def _work_through(order: dict[str, Any]) -> None:
    rng, images, files = np.random.default_rng(order["seed"]), empty_batch(order["batch"]), order["files"]
    for _ in range(order["epochs"]):
        for place, number in enumerate(rng.permutation(len(files)).tolist()):
            crop_into(images[place % order["batch"]], Path(files[number]).read_bytes(), rng)


if __name__ == "__main__":
    serve(_work_through)
