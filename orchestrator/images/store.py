"""How a picture is kept inside a shard: as the file it was, or prepared, as JPEG, PNG, or raw pixels."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from orchestrator.errors import DataError
from orchestrator.images.decode import decode_pixels
from orchestrator.images.resize import fit_image
from orchestrator.images.sniff import sniff
from orchestrator.images.verdict import Rejection

cv2.setNumThreads(0)


def encode(image: NDArray[np.uint8], store: str, jpeg_quality: int) -> bytes:
    """Encode (H, W, C) uint8, RGB or grey; deterministic.

    Args:
        image: The picture.
        store: `jpeg`, `png` or `raw`.
        jpeg_quality: 0 to 100; used by `jpeg` alone.
    """
    if store == "raw":
        return image.tobytes()
    stored = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.shape[2] == 3 else image  # noqa: PLR2004
    if store == "jpeg":
        done, data = cv2.imencode(".jpg", stored, [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality])
    else:
        done, data = cv2.imencode(".png", stored, [cv2.IMWRITE_PNG_COMPRESSION, 3])
    if not done:
        raise DataError(f"OpenCV could not encode a picture of shape {image.shape} as {store}")
    return data.tobytes()


def decode_stored(data: bytes, store: str, out: NDArray[np.uint8], fit: str = "crop") -> None:
    """Write a stored picture into `out`, (H, W, C) uint8, RGB or grey.

    Args:
        data: What the shard holds.
        store: `original`, `jpeg`, `png` or `raw`.
        out: Written in place.
        fit: How an original is brought to the size of `out`.

    Raises:
        DataError: The bytes do not hold a picture of that shape.
    """
    image = _original(data, fit, out.shape) if store == "original" else _pixels(data, store, out.shape)
    if image is None or image.shape[:2] != out.shape[:2]:
        raise DataError(
            f"{len(data)} stored bytes do not hold a {store} picture of {out.shape}", "delete the data folder and run the job again"
        )
    out[...] = image.reshape(out.shape)


def _original(data: bytes, fit: str, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    """None where there is no picture; what is stored has passed the limits of its job."""
    header = sniff(data)
    image = header if isinstance(header, Rejection) else decode_pixels(data, header, shape[2])
    return None if isinstance(image, Rejection) else fit_image(image, shape[0], fit)


def _pixels(data: bytes, store: str, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    """None where there is no picture."""
    buffer = np.frombuffer(data, np.uint8)
    if store == "raw":
        return buffer.reshape(shape) if buffer.size == math.prod(shape) else None
    flag = cv2.IMREAD_COLOR_RGB if shape[2] == 3 else cv2.IMREAD_GRAYSCALE  # noqa: PLR2004
    try:
        image: NDArray[np.uint8] | None = cv2.imdecode(buffer, flag | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        return None
    return image


def to_png(stored: bytes, store: str, fit: str, size: int, channels: int) -> bytes:
    """A stored picture as a PNG file of `size` x `size` pixels."""
    image: NDArray[np.uint8] = np.empty((size, size, channels), np.uint8)
    decode_stored(stored, store, image, fit)
    return encode(image, "png", 95)
