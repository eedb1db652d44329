"""How a picture is kept inside a shard: as the file it was, or prepared, as JPEG, PNG, or raw pixels."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from orchestrator.errors import DataError
from orchestrator.images.decode import Content, read_flag

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


def decode_stored(data: Content, store: str, out: NDArray[np.uint8]) -> None:
    """Write a stored picture of the shape of `out`, (H, W, C) uint8, RGB or grey, in place.

    Args:
        data: What the shard holds.
        store: `jpeg`, `png` or `raw`.
        out: Written in place.

    Raises:
        DataError: The bytes do not hold a picture of that shape.
    """
    if store == "raw":
        if len(data) != out.size:
            raise unfit(data, store, out.shape)
        out[...] = np.frombuffer(data, np.uint8).reshape(out.shape)
        return
    image = decode_picture(data, out.shape[2])
    if image is None or image.shape[:2] != out.shape[:2]:
        raise unfit(data, store, out.shape)
    out[...] = image.reshape(out.shape)


def decode_picture(data: Content, channels: int, reduction: int = 1) -> NDArray[np.uint8] | None:
    """A stored JPEG or PNG, as it lies there, whole or a JPEG reduced; None where there is none."""
    flag = read_flag(channels, reduction) | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image: NDArray[np.uint8] | None = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    except cv2.error:
        return None
    return image


def unfit(data: Content, store: str, shape: tuple[int, ...]) -> DataError:
    """The error for stored bytes that are not what the manifest says."""
    return DataError(f"{len(data)} stored bytes do not hold a {store} picture of {shape}", "delete the data folder and run the job again")
