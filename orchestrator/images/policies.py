"""Policies: which transform an image gets, and how strong, is drawn for each image from one table.

The transforms and the strengths are those of torchvision, in 31 steps, the magnitudes 0 to 30. What differs is named here: images are
interpolated bilinearly instead of taking the nearest pixel, sheared about the centre instead of the corner, and values are
rounded instead of cut. What moves away leaves black.

| operation | RandAugment | TrivialAugment, wide | sign |
|---|---|---|---|
| identity | | | |
| shear x, y | 0 to 0.3 | 0 to 0.99 | random |
| translate x, y | 0 to 150/331 of the side | 0 to 32 pixels | random |
| rotate | 0 to 30 degrees | 0 to 135 degrees | random |
| brightness, colour, contrast, sharpness | factor 1 plus 0 to 0.9 | factor 1 plus 0 to 0.99 | random |
| posterise | 8 to 4 bits | 8 to 2 bits | |
| solarise | threshold 255 to 0 | threshold 255 to 0 | |
| autocontrast, equalise | | | |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from orchestrator.images.colour import autocontrast, brighten, equalise, posterise, saturate, solarise, stretch
from orchestrator.images.detail import sharpen
from orchestrator.images.geometry import affine_matrix, warp
from orchestrator.images.step import Image

MAGNITUDE_MAX = 30


@dataclass(frozen=True)
class Operation:
    """A transform whose strength is a number."""

    change: Callable[[Image, float], Image]
    weakest: float = 0.0
    """At magnitude 0."""
    strongest: float = 0.0
    """At magnitude 30."""
    signed: bool = False
    """Whether the strength may be negative as well."""

    def apply(self, image: Image, magnitude: int, *, negative: bool) -> Image:
        """(H, W, C) uint8 to the same shape."""
        strength = self.weakest + (self.strongest - self.weakest) * magnitude / MAGNITUDE_MAX
        return self.change(image, -strength if negative and self.signed else strength)


def _warped(image: Image, degrees: float = 0.0, shift: tuple[float, float] = (0.0, 0.0), shear: tuple[float, float] = (0.0, 0.0)) -> Image:
    return warp(image, affine_matrix(image.shape[0], image.shape[1], degrees, shift, shear=shear), "black")


def _space(*, shear: float, translations: tuple[Operation, Operation], degrees: float, factor: float, bits: int) -> tuple[Operation, ...]:
    """The operations, each up to its strongest."""
    return (
        Operation(lambda image, _: image),
        Operation(lambda image, x: _warped(image, shear=(x, 0.0)), 0.0, shear, signed=True),
        Operation(lambda image, y: _warped(image, shear=(0.0, y)), 0.0, shear, signed=True),
        *translations,
        Operation(_warped, 0.0, degrees, signed=True),
        Operation(lambda image, change: brighten(image, 1 + change), 0.0, factor, signed=True),
        Operation(lambda image, change: saturate(image, 1 + change), 0.0, factor, signed=True),
        Operation(lambda image, change: stretch(image, 1 + change), 0.0, factor, signed=True),
        Operation(lambda image, change: sharpen(image, 1 + change), 0.0, factor, signed=True),
        Operation(lambda image, kept: posterise(image, round(kept)), 8, bits),
        Operation(solarise, 255, 0),
        Operation(lambda image, _: autocontrast(image)),
        Operation(lambda image, _: equalise(image)),
    )


RAND_SPACE = _space(
    shear=0.3,
    translations=(
        Operation(lambda image, share: _warped(image, shift=(int(share * image.shape[1]), 0.0)), 0.0, 150 / 331, signed=True),
        Operation(lambda image, share: _warped(image, shift=(0.0, int(share * image.shape[0]))), 0.0, 150 / 331, signed=True),
    ),
    degrees=30.0,
    factor=0.9,
    bits=4,
)
WIDE_SPACE = _space(
    shear=0.99,
    translations=(
        Operation(lambda image, pixels: _warped(image, shift=(int(pixels), 0.0)), 0.0, 32.0, signed=True),
        Operation(lambda image, pixels: _warped(image, shift=(0.0, int(pixels))), 0.0, 32.0, signed=True),
    ),
    degrees=135.0,
    factor=0.99,
    bits=2,
)


@dataclass(frozen=True)
class RandAugment:
    """Some operations, drawn anew for each image, all of one magnitude (Cubuk et al. 2019, arXiv 1909.13719)."""

    ops: int
    magnitude: int
    """0 to 30."""

    def apply(self, image: Image, rng: np.random.Generator) -> Image:
        """(H, W, C) uint8 to the same shape."""
        for number in rng.integers(len(RAND_SPACE), size=self.ops).tolist():
            image = RAND_SPACE[number].apply(image, self.magnitude, negative=rng.random() < 0.5)  # noqa: PLR2004 -- a coin
        return image


@dataclass(frozen=True)
class TrivialAugment:
    """One operation of a random magnitude (Müller and Hutter 2021, arXiv 2103.10158), from the wide space."""

    def apply(self, image: Image, rng: np.random.Generator) -> Image:
        """(H, W, C) uint8 to the same shape."""
        operation = WIDE_SPACE[int(rng.integers(len(WIDE_SPACE)))]
        magnitude = int(rng.integers(MAGNITUDE_MAX + 1))
        return operation.apply(image, magnitude, negative=rng.random() < 0.5)  # noqa: PLR2004 -- a coin
