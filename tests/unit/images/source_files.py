"""Image files as they come from elsewhere: every format, with the metadata and the oddities that OpenCV does not write."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from orchestrator.images.frame import fit_frame
from orchestrator.testing import png_chunk


def gradient(height: int = 24, width: int = 40) -> NDArray[np.uint8]:
    """A smooth picture, so that JPEG keeps it nearly as it is."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows * 255 // height, columns * 255 // width, (rows + columns) * 255 // (height + width)], axis=2).astype(np.uint8)


def encoded(extension: str, image: NDArray[np.uint8] | None = None, options: Sequence[int] = ()) -> bytes:
    """A file of that kind, the picture taken as RGB."""
    image = gradient() if image is None else image
    return cv2.imencode(extension, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1].tobytes()


def see_through(extension: str, options: Sequence[int] = ()) -> bytes:
    """The gradient, a little transparent."""
    return cv2.imencode(extension, np.dstack([gradient(), np.full((24, 40), 200, np.uint8)]), options)[1].tobytes()


def exif(orientation: int) -> bytes:
    """EXIF metadata that hold an orientation and nothing else."""
    return b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01" + struct.pack(">H", orientation) + bytes(6)


def turned(picture: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """What a viewer shows of a picture with that orientation (EXIF 2.32, section 4.6.4)."""
    return {
        1: picture,
        2: picture[:, ::-1],
        3: picture[::-1, ::-1],
        4: picture[::-1],
        5: picture.transpose(1, 0, 2),
        6: np.rot90(picture, -1),
        7: picture[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(picture),
    }[orientation]


def png_with(*chunks: bytes, png: bytes = b"") -> bytes:
    """A PNG with more chunks behind its header."""
    png = png or encoded(".png")
    return png[:33] + b"".join(chunks) + png[33:]


def jpeg_segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def jpeg_with(*segments: bytes) -> bytes:
    """A JPEG with more segments at its start."""
    jpeg = encoded(".jpg")
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def webp_with(flags: int, *chunks: tuple[bytes, bytes], webp: bytes = b"", behind: tuple[tuple[bytes, bytes], ...] = ()) -> bytes:
    """An extended WebP of 40 x 24 pixels with chunks before its pixels and behind them (RFC 9649, section 2.7)."""
    webp = webp or encoded(".webp", options=(cv2.IMWRITE_WEBP_QUALITY, 80))
    start = 30 if webp[12:16] == b"VP8X" else 12
    canvas = bytes([flags, 0, 0, 0]) + (39).to_bytes(3, "little") + (23).to_bytes(3, "little")
    body = _riff_chunks((b"VP8X", canvas), *chunks) + webp[start:] + _riff_chunks(*behind)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def _riff_chunks(*chunks: tuple[bytes, bytes]) -> bytes:
    return b"".join(kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2) for kind, content in chunks)


def oriented(form: str, orientation: int) -> bytes:
    """The gradient with an orientation, in each way that the format keeps one."""
    metadata = exif(orientation)
    if form == "jpeg":
        return jpeg_with(jpeg_segment(0xE1, b"Exif\0\0" + metadata))
    if form.startswith("png"):
        return png_with(png_chunk(b"eXIf", metadata), png=plain(form))
    return webp_with(0x08 | (0x10 if "alpha" in form else 0), webp=plain(form), behind=((b"EXIF", metadata),))


def plain(form: str) -> bytes:
    """The gradient without an orientation."""
    return {
        "jpeg": lambda: encoded(".jpg"),
        "png": lambda: encoded(".png"),
        "png alpha": lambda: see_through(".png"),
        "webp": lambda: encoded(".webp", options=(cv2.IMWRITE_WEBP_QUALITY, 80)),
        "webp alpha": lambda: see_through(".webp", (cv2.IMWRITE_WEBP_QUALITY, 80)),
        "webp lossless": lambda: encoded(".webp"),
    }[form]()


def flat_jpeg(samples: Sequence[int], adobe_transform: int | None) -> bytes:
    """A baseline JPEG of 8 x 8 pixels of one colour, any number of components: one DC coefficient for each (ITU T.81, annex F).

    Args:
        samples: The value of each component as it is stored.
        adobe_transform: What Adobe's segment says of the components: 0 as they are, 2 YCCK; None leaves the segment out.
    """
    bits = ""
    for sample in samples:
        coefficient = (sample - 128) * 8
        size = abs(coefficient).bit_length()
        value = coefficient if coefficient > 0 else coefficient + (1 << size) - 1
        bits += f"{size:04b}" + (f"{value:0{size}b}" if size else "") + "0"
    bits += "1" * (-len(bits) % 8)
    scan = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    numbers = range(1, len(samples) + 1)
    frame = struct.pack(">BHHB", 8, 8, 8, len(samples)) + b"".join(bytes([number, 0x11, 0]) for number in numbers)
    dc_codes, ac_codes = bytes([0, 0, 0, 0, 12, *bytes(12), *range(12)]), bytes([0x10, 1, *bytes(15), 0])
    start = bytes([len(samples)]) + b"".join(bytes([number, 0]) for number in numbers) + bytes([0, 63, 0])
    adobe = b"" if adobe_transform is None else jpeg_segment(0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([adobe_transform]))
    tables = (
        jpeg_segment(0xDB, b"\0" + b"\x01" * 64) + jpeg_segment(0xC0, frame) + jpeg_segment(0xC4, dc_codes) + jpeg_segment(0xC4, ac_codes)
    )
    return b"\xff\xd8" + adobe + tables + jpeg_segment(0xDA, start) + scan + b"\xff\xd9"


def small_png(colour_type: int, bits: int, row: bytes, *chunks: bytes) -> bytes:
    """A PNG of two pixels, side by side, twice."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, bits, colour_type, 0, 0, 0))
    pixels = png_chunk(b"IDAT", zlib.compress(2 * (b"\0" + row))) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + pixels


def black_and_white_bmp() -> bytes:
    """8 x 8 pixels of one bit, in stripes."""
    palette, rows = bytes(4) + b"\xff\xff\xff\0", 8 * b"\x55\0\0\0"
    header = struct.pack("<IiiHHIIiiII", 40, 8, 8, 1, 1, 0, len(rows), 0, 0, 2, 2)
    start = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + header + palette + rows


def fitted(image: NDArray[np.uint8], size: int, fit: str) -> NDArray[np.uint8]:
    """(H, W, C) uint8 as the model sees it without augmentation."""
    out = np.empty((size, size, image.shape[2]), np.uint8)
    fit_frame(image.shape[0], image.shape[1], size, fit).fill(image, out)
    return out
