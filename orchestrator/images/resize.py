"""Any picture to the square size of a job."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


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
    scale = size / (min(height, width) if fit == "crop" else max(height, width))
    resized = _resize(image, max(1, round(width * scale)), max(1, round(height * scale)))
    return _centre(resized, size)


def _resize(image: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Area averaging downwards, cubic upwards, as OpenCV's documentation recommends."""
    if image.shape[1] == width and image.shape[0] == height:
        return image
    shrinks = width * height < image.shape[0] * image.shape[1]
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return resized.reshape(height, width, image.shape[2])  # type: ignore[return-value]


def _centre(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Cut what is larger than the square, surround what is smaller with black."""
    height, width = image.shape[:2]
    top, left = max(0, (height - size) // 2), max(0, (width - size) // 2)
    cut = image[top : top + size, left : left + size]
    if cut.shape[:2] == (size, size):
        return np.ascontiguousarray(cut)
    square = np.zeros((size, size, image.shape[2]), np.uint8)
    down, right = (size - cut.shape[0]) // 2, (size - cut.shape[1]) // 2
    square[down : down + cut.shape[0], right : right + cut.shape[1]] = cut
    return square
