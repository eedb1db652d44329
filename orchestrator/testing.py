"""Small folders of images for tests of jobs, yours or ours."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from orchestrator.images.store import encode
from orchestrator.images.verdict import Reason


def write_image_folder(
    folder: Path,
    *,
    classes: Sequence[str],
    images_per_class: int,
    size: int | tuple[int, int] = 32,
    seed: int = 0,
    splits: Sequence[str] = (),
    form: str = "png",
) -> Path:
    """Write a folder per class of images that a small network can tell apart; the same seed writes the same files.

    Args:
        folder: Made if needed.
        classes: Names of the class folders.
        images_per_class: Images in each class, and in each split when there are splits.
        size: Side, or width and height, in pixels; at least 8.
        seed: Another seed draws other images.
        splits: Names of split folders above the class folders, or none.
        form: `png` or `jpeg`.
    """
    rng = np.random.default_rng(seed)
    width, height = (size, size) if isinstance(size, int) else size
    for split in splits or ("",):
        for label, name in enumerate(classes):
            place = folder / split / name
            place.mkdir(parents=True, exist_ok=True)
            for number in range(images_per_class):
                (place / f"{number:05d}.{form}").write_bytes(encode(draw(rng, label, width, height), form, 95))
    return folder


def draw(rng: np.random.Generator, label: int, width: int, height: int) -> NDArray[np.uint8]:
    """A picture (height, width, 3): the label decides the shape and leans on the colour, the rest is chance."""
    side = max(width, height)
    image: NDArray[np.uint8] = rng.integers(0, 90, (side, side, 3), dtype=np.uint8)
    colour = [int(value) for value in rng.integers(120, 256, 3)]
    colour[label % 3] = 255
    x, y = (int(value) for value in rng.integers(side // 3, side - side // 3, 2))
    radius = int(rng.integers(side // 5, side // 3))
    if label % 3 == 0:
        cv2.circle(image, (x, y), radius, colour, -1)
    elif label % 3 == 1:
        cv2.circle(image, (x, y), radius, colour, max(1, side // 16))
    else:
        cv2.rectangle(image, (x - radius, y - radius), (x + radius, y + radius), colour, -1)
    if width != height:
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return image


def photo(rng: np.random.Generator, width: int, height: int) -> NDArray[np.uint8]:
    """A picture (height, width, 3) with some of the statistics of a photograph, so that codecs work about as hard on it.

    Amplitudes fall off with 1/f, as in natural images (Field 1987, J. Opt. Soc. Am. A 4), and a few shapes add edges.
    """
    rows, columns = np.fft.fftfreq(height)[:, np.newaxis], np.fft.rfftfreq(width)[np.newaxis]
    fall_off = 1 / np.maximum(np.hypot(rows, columns), 1 / max(width, height))
    noise = np.fft.rfft2(rng.standard_normal((3, height, width)), axes=(1, 2)) * fall_off
    planes = np.fft.irfft2(noise, s=(height, width), axes=(1, 2))
    planes = 0.8 * planes.mean(axis=0) + 0.2 * planes  # channels of photographs are alike
    image: NDArray[np.uint8] = np.clip(128 + 48 * planes / planes.std(), 0, 255).astype(np.uint8).transpose(1, 2, 0).copy()
    for _ in range(4):
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        axes = (int(rng.integers(1, width // 5 + 2)), int(rng.integers(1, height // 5 + 2)))
        colour = [int(value) for value in rng.integers(0, 256, 3)]
        cv2.ellipse(image, centre, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA)
    return image


def write_bad_images(folder: Path) -> dict[str, Reason]:
    """One file for every reason to reject an image that a file alone can give, with the limits of a job that sets none.

    Returns:
        The reason for each file name.
    """
    picture = draw(np.random.default_rng(0), 0, 32, 32)
    png, jpeg = encode(picture, "png", 95), encode(picture, "jpeg", 95)
    middle = len(png) // 2
    animation = png_chunk(b"acTL", struct.pack(">II", 2, 0))
    files = {
        "empty.jpg": (b"", Reason.EMPTY_FILE),
        "page.jpg": (b"<!DOCTYPE html><title>404 Not Found</title>", Reason.NOT_AN_IMAGE),
        "really-a-gif.jpg": (b"GIF89a\x01\0\x01\0\0\0\0;", Reason.FORMAT_NOT_ALLOWED),
        "cut.jpg": (jpeg[: len(jpeg) // 2], Reason.TRUNCATED),
        "damaged.png": (png[:middle] + bytes(16) + png[middle + 16 :], Reason.CORRUPT),
        "bomb.png": (one_colour_png(9_000, 8_000), Reason.TOO_LARGE),
        "animated.png": (png[:33] + animation + png[33:], Reason.ANIMATED),
        "line.png": (encode(picture[:, :1], "png", 95), Reason.DEGENERATE_SIZE),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, (content, _) in files.items():
        (folder / name).write_bytes(content)
    return {name: reason for name, (_, reason) in files.items()}


def one_colour_png(width: int, height: int) -> bytes:
    """A black PNG of few bytes and many pixels, one bit each; valid."""
    packer = zlib.compressobj(9)
    row = bytes(1 + -(-width // 8))
    pixels = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG file: length, kind, content and checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
