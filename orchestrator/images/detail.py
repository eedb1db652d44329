"""Transforms of the fine detail: sharpness, blur, noise, the traces of JPEG, and parts that are missing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import cv2
import numpy as np
from numpy.typing import NDArray

from orchestrator.images.colour import Jitter
from orchestrator.images.geometry import draw_window
from orchestrator.images.step import Image, Range, Sometimes, shaped
from orchestrator.images.store import decode_stored, encode

cv2.setNumThreads(0)

SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13
"""The kernel with which Pillow and torchvision soften."""
BAND_VALUES = 2**14
"""Values that get their noise at a time: larger arrays are mapped and unmapped anew for each image, which doubles the time."""
SHARP = np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]])


def _normal_quantiles() -> NDArray[np.float64]:
    """The means of 256 equally likely slices of a normal distribution, scaled to a variance of 1."""
    values = np.array([NormalDist().inv_cdf((slice_ + 0.5) / 256) for slice_ in range(256)])
    return np.asarray(values / values.std())


QUANTILES = _normal_quantiles()


@dataclass(frozen=True)
class Sharpness(Jitter):
    """Softer or sharper."""

    def change(self, image: Image, rng: np.random.Generator) -> Image:
        """(H, W, C) uint8 to the same shape."""
        return sharpen(image, self.draw(rng))


@dataclass(frozen=True)
class Blur(Sometimes):
    """Out of focus: a Gaussian blur."""

    sigma: Range
    """Pixels."""

    def change(self, image: Image, rng: np.random.Generator) -> Image:
        """(H, W, C) uint8 to the same shape."""
        return shaped(cv2.GaussianBlur(image, (0, 0), rng.uniform(*self.sigma)), image)


@dataclass(frozen=True)
class Noise(Sometimes):
    """Gaussian noise, in every channel its own."""

    std: Range
    """Standard deviation in levels of 255."""

    def change(self, image: Image, rng: np.random.Generator) -> Image:
        """Two looked-up quantiles for each value, because their sum is as good as normal and drawn four times as fast.

        (H, W, C) uint8 to the same shape.
        """
        table = (QUANTILES * (rng.uniform(*self.std) / math.sqrt(2))).astype(np.float32)
        draws, values = draw_bytes(2 * image.size, rng).reshape(2, 1, -1), image.reshape(1, -1)
        noisy = np.empty_like(values)
        for start in range(0, image.size, BAND_VALUES):
            band = np.s_[:, start : start + BAND_VALUES]
            noise = cv2.LUT(draws[0][band], table)
            cv2.add(noise, cv2.LUT(draws[1][band], table), dst=noise)
            cv2.add(values[band], noise, dst=noisy[band], dtype=cv2.CV_8U)
        return shaped(noisy, image)


@dataclass(frozen=True)
class Jpeg(Sometimes):
    """The traces of JPEG."""

    quality: tuple[int, int]

    def change(self, image: Image, rng: np.random.Generator) -> Image:
        """(H, W, C) uint8 to the same shape."""
        compressed = np.empty_like(image)
        decode_stored(encode(image, "jpeg", int(rng.integers(*self.quality, endpoint=True))), "jpeg", compressed)
        return compressed


@dataclass(frozen=True)
class Erasing(Sometimes):
    """A rectangle of random values in place of the image (Zhong et al. 2017, arXiv 1708.04896)."""

    scale: Range
    """Share of the area."""
    ratio: Range
    """Width by height."""

    def change(self, image: Image, rng: np.random.Generator) -> Image:
        """(H, W, C) uint8 to the same shape; unchanged where no rectangle of that kind fits."""
        window = draw_window(image.shape[0], image.shape[1], self.scale, self.ratio, rng)
        if window is None:
            return image
        erased = image.copy()
        part = window.of(erased)
        part[...] = draw_bytes(part.size, rng).reshape(part.shape)
        return erased


def sharpen(image: Image, factor: float) -> Image:
    """The distance of every pixel to the softened image times the factor; the outermost pixels stay as they are."""
    sharpened = shaped(cv2.filter2D(image, -1, factor * SHARP + (1 - factor) * SMOOTH), image)
    for edge in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
        sharpened[edge] = image[edge]
    return sharpened


def draw_bytes(count: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Evenly spread values; whole words cost a quarter of what `rng.bytes` takes."""
    words = rng.integers(0, 2**64, size=-(-count // 8), dtype=np.uint64)
    return words.view(np.uint8)[:count]
