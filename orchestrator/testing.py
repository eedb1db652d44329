"""Small folders of images for tests of jobs, yours or ours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from orchestrator.images.store import encode


def write_image_folder(
    folder: Path,
    *,
    classes: Sequence[str],
    images_per_class: int,
    size: int = 32,
    seed: int = 0,
    splits: Sequence[str] = (),
    form: str = "png",
) -> Path:
    """Write a folder per class of images that a small network can tell apart; the same seed writes the same files.

    Args:
        folder: Made if needed.
        classes: Names of the class folders.
        images_per_class: Images in each class, and in each split when there are splits.
        size: Side in pixels.
        seed: Another seed draws other images.
        splits: Names of split folders above the class folders, or none.
        form: `png` or `jpeg`.
    """
    rng = np.random.default_rng(seed)
    for split in splits or ("",):
        for label, name in enumerate(classes):
            place = folder / split / name
            place.mkdir(parents=True, exist_ok=True)
            for number in range(images_per_class):
                (place / f"{number:05d}.{form}").write_bytes(encode(draw(rng, label, size), form, 95))
    return folder


def draw(rng: np.random.Generator, label: int, size: int) -> NDArray[np.uint8]:
    """A picture (size, size, 3): the label decides the shape and leans on the colour, the rest is chance."""
    image = rng.integers(0, 90, (size, size, 3), dtype=np.uint8)
    colour = [int(value) for value in rng.integers(120, 256, 3)]
    colour[label % 3] = 255
    centre = tuple(int(value) for value in rng.integers(size // 3, size - size // 3, 2))
    radius = int(rng.integers(size // 5, size // 3))
    if label % 3 == 0:
        cv2.circle(image, centre, radius, colour, -1)
    elif label % 3 == 1:
        cv2.circle(image, centre, radius, colour, max(1, size // 16))
    else:
        cv2.rectangle(image, (centre[0] - radius, centre[1] - radius), (centre[0] + radius, centre[1] + radius), colour, -1)
    return image
