"""Bytes to pixels or to a verdict; never an exception, never a path.

OpenCV crashes on some file names and accepts truncated JPEGs when it is given a path, so it only ever sees bytes.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from orchestrator.images.frame import Choose
from orchestrator.images.orientation import read_orientation, turn_upright
from orchestrator.images.sniff import Header, sniff
from orchestrator.images.verdict import Reason, Rejection

cv2.setNumThreads(0)
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

Content = bytes | memoryview
"""Of a file, or what is stored of one."""
BACKGROUND = 255
"""Grey level that shows where a picture is transparent."""
MIN_SIDE = 2
"""Pixels: narrower pictures are tracking pixels and ruled lines."""
MAX_ASPECT = 100
"""Longer side over shorter side."""
REDUCED = {1: 0, 2: cv2.IMREAD_REDUCED_GRAYSCALE_2, 4: cv2.IMREAD_REDUCED_GRAYSCALE_4, 8: cv2.IMREAD_REDUCED_GRAYSCALE_8}
"""The bits of OpenCV's flags that reduce, without those of a colour."""


def decode(data: bytes, *, channels: int, max_pixels: int) -> NDArray[np.uint8] | Rejection:
    """Decode an image file.

    The EXIF orientation is applied, 16-bit samples are scaled to 8 bits, transparency is composited on white. Of a PNG
    without an alpha channel that declares one grey to be transparent, OpenCV shows that grey.

    Args:
        data: The content of the file.
        channels: 3 for RGB, 1 for grey.
        max_pixels: Larger pictures are rejected by their header, before anything is allocated.

    Returns:
        (H, W, channels) uint8, or why there is no picture.
    """
    header = sniff(data)
    if isinstance(header, Rejection):
        return header
    refusal = refuse(header, max_pixels=max_pixels, min_side=MIN_SIDE, max_aspect=MAX_ASPECT)
    return refusal or decode_pixels(data, header, channels)


def refuse(header: Header, *, max_pixels: int, min_side: int, max_aspect: int) -> Rejection | None:
    """Why a picture with that header is not decoded, if it is not."""
    shorter, longer = sorted((header.width, header.height))
    if shorter == 0:
        return Rejection(Reason.CORRUPT, f"{header.width} x {header.height} pixels")
    if header.width * header.height > max_pixels:
        return Rejection(Reason.TOO_LARGE, f"{header.width} x {header.height} pixels, at most {max_pixels} are taken")
    if header.animated:
        return Rejection(Reason.ANIMATED, f"animated {header.format}")
    if shorter < min_side or longer > max_aspect * shorter:
        limits = f"sides of at least {min_side} and of at most 1 : {max_aspect} are taken"
        return Rejection(Reason.DEGENERATE_SIZE, f"{header.width} x {header.height} pixels, {limits}")
    return None


def decode_frame(data: Content, header: Header, choose: Choose, out: NDArray[np.uint8]) -> tuple[int, int] | Rejection:
    """Write the part of a picture that is asked for, decoding a JPEG no larger than that part needs.

    Args:
        data: The content of the file.
        header: Its header, which was not refused.
        choose: Asked once, for the height and width of the upright picture.
        out: (S, S, C) uint8, RGB or grey, written in place.

    Returns:
        Height and width of the upright picture, or why there is no picture.
    """
    before = choose(*header.upright) if header.format == "jpeg" else None
    reduction = before.reduction if before else 1
    image = decode_pixels(data, header, out.shape[2], reduction)
    if isinstance(image, Rejection):
        return image
    now = (image.shape[0], image.shape[1])
    frame = before.moved(header.upright, now) if before else choose(*now)
    frame.fill(image, out)
    return now if reduction == 1 else header.upright


def decode_pixels(data: Content, header: Header, channels: int, reduction: int = 1) -> NDArray[np.uint8] | Rejection:
    """The pixels behind a header that was not refused; of a JPEG, every second, fourth or eighth in both directions."""
    buffer = np.frombuffer(data, np.uint8)
    try:
        if header.alpha:
            return _decode_alpha(buffer, header, channels)
        image: NDArray[np.uint8] | None = cv2.imdecode(buffer, read_flag(channels, reduction))
    except MemoryError as error:
        return Rejection(Reason.DECODE_OOM, str(error))
    except cv2.error as error:
        reason = Reason.DECODE_OOM if error.code == cv2.Error.StsNoMem else Reason.CORRUPT
        return Rejection(reason, str(error).strip().splitlines()[-1][:200])
    if image is None:
        return _name_damage(bytes(data), header)
    return image if channels == 3 else image[:, :, np.newaxis]  # noqa: PLR2004


def read_flag(channels: int, reduction: int) -> int:
    """What tells OpenCV to decode to RGB or grey, whole or reduced."""
    return (cv2.IMREAD_COLOR_RGB if channels == 3 else cv2.IMREAD_GRAYSCALE) | REDUCED[reduction]  # noqa: PLR2004


def _decode_alpha(buffer: NDArray[np.uint8], header: Header, channels: int) -> NDArray[np.uint8] | Rejection:
    image, kinds, metadata = cv2.imdecodeWithMetadata(buffer, cv2.IMREAD_UNCHANGED)
    if image is None:
        return _name_damage(buffer.tobytes(), header)
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    if image.ndim == 2:  # noqa: PLR2004 -- grey without a channel axis
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    if image.shape[2] == 4:  # noqa: PLR2004 -- BGRA
        alpha = image[:, :, 3:].astype(np.uint16)
        image = ((image[:, :, :3] * alpha + BACKGROUND * (255 - alpha) + 127) // 255).astype(np.uint8)
    exif = dict(zip(kinds, metadata, strict=True)).get(cv2.IMAGE_METADATA_EXIF)
    upright = image if exif is None else turn_upright(image, read_orientation(exif.tobytes()))
    picture: NDArray[np.uint8] = cv2.cvtColor(upright, cv2.COLOR_BGR2GRAY if channels == 1 else cv2.COLOR_BGR2RGB)
    return picture.reshape(*upright.shape[:2], channels)


END_MARKS = {"png": b"IEND", "jpeg": b"\xff\xd9"}


def _name_damage(data: bytes, header: Header) -> Rejection:
    """Truncated when the end of the file is missing, corrupt otherwise."""
    mark = END_MARKS.get(header.format)
    cut = mark not in data[-64:] if mark else _announced_bytes(data, header) > len(data)
    size = f"{header.format} of {header.width} x {header.height}, {len(data)} bytes"
    return Rejection(Reason.TRUNCATED if cut else Reason.CORRUPT, size)


def _announced_bytes(data: bytes, header: Header) -> int:
    """File size that the header of a WebP or BMP announces."""
    return 8 + int.from_bytes(data[4:8], "little") if header.format == "webp" else int.from_bytes(data[2:6], "little")
