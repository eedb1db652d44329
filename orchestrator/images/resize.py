"""Any picture to the square size of a job."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

cv2.setNumThreads(0)


def fit_image(image: NDArray[np.uint8], size: int, fit: str) -> NDArray[np.uint8]:
    """Resize (H, W, C) uint8 to (size, size, C).

    Args:
        image: The picture.
        size: Side of the result in pixels.
        fit: `crop` (short side to size, centre crop), `pad` (long side to size, black borders) or `squash` (both sides).
    """
    height, width = image.shape[:2]
    if height == width == size:
        return image
    if fit == "squash":
        return _resize(image, size, size)
    if fit == "crop":
        return np.ascontiguousarray(_resize(_centre_square(image), size, size))
    scale = size / max(height, width)
    return _on_black(_resize(image, max(1, round(width * scale)), max(1, round(height * scale))), size)


def _centre_square(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Cut before resizing: scaling all of a picture of 1 x 60,000 pixels to a short side of 224 would take gigabytes."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side]


def _resize(image: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Area averaging downwards, cubic upwards, as OpenCV's documentation recommends."""
    if image.shape[1] == width and image.shape[0] == height:
        return image
    shrinks = width * height < image.shape[0] * image.shape[1]
    resized: NDArray[np.uint8] = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return resized.reshape(height, width, image.shape[2])


def _on_black(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Surround with black to a square."""
    height, width = image.shape[:2]
    if height == width == size:
        return image
    square = np.zeros((size, size, image.shape[2]), np.uint8)
    top, left = (size - height) // 2, (size - width) // 2
    square[top : top + height, left : left + width] = image
    return square
