"""What every loader of the ingest benchmark does to an image: decode, a random window resized to 224 x 224, and a flip of every other one.

Imports OpenCV, numpy and the drawing of the window, so that it runs in the environment of every loader.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from orchestrator.images.geometry import Window, central_window, draw_window

cv2.setNumThreads(0)

SIZE = 224
SCALE, RATIO = (0.08, 1.0), (0.75, 1.3333)
"""Defaults of `random_resized_crop` in a job file."""


def empty_batch(rows: int) -> NDArray[np.uint8]:
    return np.empty((rows, SIZE, SIZE, 3), np.uint8)


def crop_into(out: NDArray[np.uint8], data: bytes, rng: np.random.Generator) -> None:
    """Write the image of a file into `out`, (SIZE, SIZE, 3) uint8 RGB, with the fewest calls and no copy."""
    image: NDArray[np.uint8] | None = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert image is not None
    crop_pixels_into(out, image, rng)


def crop_pixels_into(out: NDArray[np.uint8], image: NDArray[np.uint8], rng: np.random.Generator) -> None:
    """The same from (H, W, 3) uint8."""
    cv2.resize(_window(image, rng).of(image), (SIZE, SIZE), dst=out, interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.5:
        cv2.flip(out, 1, dst=out)


def _window(image: NDArray[np.uint8], rng: np.random.Generator) -> Window:
    height, width = image.shape[:2]
    return draw_window(height, width, SCALE, RATIO, rng) or central_window(height, width, RATIO)
