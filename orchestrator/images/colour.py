"""Transforms that change values and leave every pixel at its place.

Each one is a function of its parameters and a step that draws them. On grey images those that need colour change nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from orchestrator.images.step import Image, Sometimes, shaped

cv2.setNumThreads(0)

LUMA = np.array([0.299, 0.587, 0.114])
"""What red, green and blue weigh in grey (ITU-R BT.601)."""
LEVELS = np.arange(256, dtype=np.float64)


@dataclass(frozen=True)
class Jitter(Sometimes):
    """A transform by a factor, in which 1 changes nothing."""

    amount: float
    """How far the factor may be from 1."""

    def draw(self, rng: np.random.Generator) -> float:
        """A factor between 1 - amount and 1 + amount."""
        return rng.uniform(1 - self.amount, 1 + self.amount)


@dataclass(frozen=True)
class Brightness(Jitter):
    """Darker or brighter."""

    def change(self, image: Image, rng: np.random.Generator) -> Image:
        """(H, W, C) uint8 to the same shape."""
        return brighten(image, self.draw(rng))


@dataclass(frozen=True)
class Contrast(Jitter):
    """Duller or starker."""

    def change(self, image: Image, rng: np.random.Generator) -> Image:
        """(H, W, C) uint8 to the same shape."""
        return stretch(image, self.draw(rng))


@dataclass(frozen=True)
class Saturation(Jitter):
    """Paler or more colourful."""

    def change(self, image: Image, rng: np.random.Generator) -> Image:
        """(H, W, C) uint8 to the same shape."""
        return saturate(image, self.draw(rng))


@dataclass(frozen=True)
class Hue(Sometimes):
    """Other colours of the same brightness."""

    amount: float
    """Share of the circle of colours at most, either way."""

    def change(self, image: Image, rng: np.random.Generator) -> Image:
        """(H, W, C) uint8 to the same shape."""
        return rotate_hue(image, rng.uniform(-self.amount, self.amount))


@dataclass(frozen=True)
class Grey(Sometimes):
    """Without colour."""

    def change(self, image: Image, rng: np.random.Generator) -> Image:  # noqa: ARG002 -- nothing is left to draw
        """(H, W, C) uint8 to the same shape."""
        return grey(image)


@dataclass(frozen=True)
class Solarise(Sometimes):
    """Bright values inverted, as on an overexposed film."""

    threshold: int

    def change(self, image: Image, rng: np.random.Generator) -> Image:  # noqa: ARG002 -- nothing is left to draw
        """(H, W, C) uint8 to the same shape."""
        return solarise(image, self.threshold)


@dataclass(frozen=True)
class Posterise(Sometimes):
    """Fewer levels of every channel."""

    bits: int

    def change(self, image: Image, rng: np.random.Generator) -> Image:  # noqa: ARG002 -- nothing is left to draw
        """(H, W, C) uint8 to the same shape."""
        return posterise(image, self.bits)


@dataclass(frozen=True)
class Equalise(Sometimes):
    """All levels of a channel equally frequent."""

    def change(self, image: Image, rng: np.random.Generator) -> Image:  # noqa: ARG002 -- nothing is left to draw
        """(H, W, C) uint8 to the same shape."""
        return equalise(image)


@dataclass(frozen=True)
class Autocontrast(Sometimes):
    """Every channel stretched over all levels."""

    def change(self, image: Image, rng: np.random.Generator) -> Image:  # noqa: ARG002 -- nothing is left to draw
        """(H, W, C) uint8 to the same shape."""
        return autocontrast(image)


def brighten(image: Image, factor: float) -> Image:
    """Every value times the factor."""
    return _looked_up(image, LEVELS * factor)


def stretch(image: Image, factor: float) -> Image:
    """The distance of every value to the mean brightness times the factor."""
    means = cv2.mean(image)
    mean = float(LUMA @ means[:3]) if _has_colour(image) else means[0]
    return _looked_up(image, mean + (LEVELS - mean) * factor)


def saturate(image: Image, factor: float) -> Image:
    """The distance of every pixel to its own grey times the factor."""
    return shaped(cv2.addWeighted(image, factor, grey(image), 1 - factor, 0), image) if _has_colour(image) else image


def rotate_hue(image: Image, turn: float) -> Image:
    """The hue moved by a share of the circle; 256 hues are told apart."""
    if not _has_colour(image):
        return image
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
    hsv[..., 0] += np.uint8(round(turn * 256) % 256)  # overflow is the way around the circle
    return shaped(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL, dst=hsv), image)


def grey(image: Image) -> Image:
    """Every pixel's weighted mean of red, green and blue, in all three channels."""
    if not _has_colour(image):
        return image
    return shaped(cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), image)


def solarise(image: Image, threshold: float) -> Image:
    """Values from the threshold on inverted."""
    return _looked_up(image, np.where(threshold <= LEVELS, 255 - LEVELS, LEVELS))


def posterise(image: Image, bits: int) -> Image:
    """The upper bits of every value; the others become 0."""
    return image & np.uint8(256 - (1 << (8 - bits)))


def equalise(image: Image) -> Image:
    """The histogram of every channel made even."""
    return shaped(cv2.merge([cv2.equalizeHist(channel) for channel in cv2.split(image)]), image)


def autocontrast(image: Image) -> Image:
    """The darkest value of every channel to 0, the brightest to 255; channels of one value stay as they are."""
    low = image.min(axis=0).min(axis=0).astype(np.float64)  # rows first: these loops run over contiguous memory
    span = image.max(axis=0).max(axis=0) - low
    levels = LEVELS[:, np.newaxis]
    return _looked_up(image, np.where(span > 0, (levels - low) * 255 / np.maximum(span, 1), levels))


def _looked_up(image: Image, levels: NDArray[np.float64]) -> Image:
    """Every value replaced by its level: 256 for all channels, or (256, C), rounded and clipped."""
    table = np.rint(levels).clip(0, 255).astype(np.uint8)
    return shaped(cv2.LUT(image, table.reshape(256, 1, -1)), image)


def _has_colour(image: Image) -> bool:
    return image.shape[2:] == (3,)
