"""Transforms that move pixels: flips, crops, and affine maps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from orchestrator.images.frame import Frame, Framing, Window
from orchestrator.images.step import Image, Range, Sometimes, shaped

cv2.setNumThreads(0)

WINDOW_TRIES = 10
"""Windows drawn before none is found to fit."""

Border = Literal["reflect", "black"]
BORDERS: dict[Border, int] = {"reflect": cv2.BORDER_REFLECT_101, "black": cv2.BORDER_CONSTANT}


@dataclass(frozen=True)
class HorizontalFlip(Sometimes):
    """Left to right."""

    def change(self, image: Image, rng: np.random.Generator) -> Image:  # noqa: ARG002 -- nothing is left to draw
        """(H, W, C) uint8 to the same shape."""
        return shaped(cv2.flip(image, 1), image)


@dataclass(frozen=True)
class VerticalFlip(Sometimes):
    """Top to bottom."""

    def change(self, image: Image, rng: np.random.Generator) -> Image:  # noqa: ARG002 -- nothing is left to draw
        """(H, W, C) uint8 to the same shape."""
        return shaped(cv2.flip(image, 0), image)


@dataclass(frozen=True)
class RandomCrop:
    """A window of the original size, shifted by up to `padding` pixels over a reflected border."""

    padding: int

    def apply(self, image: Image, rng: np.random.Generator) -> Image:
        """(H, W, C) uint8 to the same shape."""
        top, left = rng.integers(0, 2 * self.padding + 1, size=2).tolist()
        height, width = image.shape[:2]
        # Reflection needs a border narrower than the image; wider ones repeat the edge.
        border = cv2.BORDER_REFLECT_101 if self.padding < min(height, width) else cv2.BORDER_REPLICATE
        padded: Image = cv2.copyMakeBorder(image, self.padding, self.padding, self.padding, self.padding, border)
        return padded.reshape(height + 2 * self.padding, width + 2 * self.padding, -1)[top : top + height, left : left + width]


@dataclass(frozen=True)
class RandomResizedCrop(Framing):
    """A window of a random share of the area and a random ratio of the sides, brought to the size of the image (Szegedy et al. 2014)."""

    scale: Range
    """Share of the area."""
    ratio: Range
    """Width by height."""

    def frame(self, height: int, width: int, size: int, rng: np.random.Generator) -> Frame:
        """The window of a picture of that height and width, brought to (size, size)."""
        return Frame(self._window(height, width, rng), size, size, bilinear=True)

    def apply(self, image: Image, rng: np.random.Generator) -> Image:
        """(H, W, C) uint8 to the same shape."""
        height, width = image.shape[:2]
        part = self._window(height, width, rng).of(image)
        return shaped(cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR), image)

    def _window(self, height: int, width: int, rng: np.random.Generator) -> Window:
        return draw_window(height, width, self.scale, self.ratio, rng) or central_window(height, width, self.ratio)


@dataclass(frozen=True)
class Affine(Sometimes):
    """Rotation, translation, scale and shear about the centre, in one pass over the pixels."""

    rotation: float
    """Degrees at most, either way."""
    translation: float
    """Share of each side at most, either way."""
    scale: Range
    shear: float
    """Degrees at most, along both sides, either way."""
    border: Border
    """What stands where the image has moved away."""

    def change(self, image: Image, rng: np.random.Generator) -> Image:
        """(H, W, C) uint8 to the same shape."""
        height, width = image.shape[:2]
        degrees = rng.uniform(-self.rotation, self.rotation)
        right, down = rng.uniform(-self.translation, self.translation, 2).tolist()
        scale = rng.uniform(*self.scale)
        shear_x, shear_y = np.tan(np.radians(rng.uniform(-self.shear, self.shear, 2))).tolist()
        shift = (right * width, down * height)
        return warp(image, affine_matrix(height, width, degrees, shift, scale, (shear_x, shear_y)), self.border)


def draw_window(height: int, width: int, scale: Range, ratio: Range, rng: np.random.Generator) -> Window | None:
    """A window as torchvision draws it: the area uniform, the ratio of width to height uniform in its logarithm.

    None when ten windows in a row were too large for the image.
    """
    for _ in range(WINDOW_TRIES):
        area = height * width * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        wide, high = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < wide <= width and 0 < high <= height:
            return Window(int(rng.integers(height - high + 1)), int(rng.integers(width - wide + 1)), high, wide)
    return None


def central_window(height: int, width: int, ratio: Range) -> Window:
    """The largest window in the middle whose ratio of width to height is allowed."""
    wide = min(width, max(1, round(height * ratio[1])))
    high = min(height, max(1, round(width / ratio[0])))
    return Window((height - high) // 2, (width - wide) // 2, high, wide)


def affine_matrix(
    height: int,
    width: int,
    degrees: float = 0.0,
    shift: tuple[float, float] = (0.0, 0.0),
    scale: float = 1.0,
    shear: tuple[float, float] = (0.0, 0.0),
) -> NDArray[np.float64]:
    """Where each pixel (x, y) goes, as a 2 x 3 matrix: sheared, rotated and scaled about the centre, then shifted.

    Args:
        height: Of the image.
        width: Of the image.
        degrees: Rotation, clockwise on the screen.
        shift: Pixels to the right and down.
        scale: Above 1 enlarges.
        shear: Pixels that x grows with each pixel of y, and y with each pixel of x.
    """
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    linear = scale * np.array([[cos, -sin], [sin, cos]]) @ np.array([[1.0, shear[0]], [shear[1], 1.0]])
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    return np.column_stack([linear, centre - linear @ centre + np.array(shift)])


def warp(image: Image, matrix: NDArray[np.float64], border: Border) -> Image:
    """Move every pixel as the matrix says, with bilinear interpolation."""
    height, width = image.shape[:2]
    return shaped(cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=BORDERS[border]), image)
