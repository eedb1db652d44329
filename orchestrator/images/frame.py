"""Any picture to the square size of a job: which part of it, how large that becomes, and by which filter."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

cv2.setNumThreads(0)

REDUCTIONS = (8, 4, 2)
"""Parts of the size, in each direction, in which libjpeg decodes a picture for a fraction of the work."""


@dataclass(frozen=True)
class Window:
    """A part of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int

    def of(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The part as a view."""
        return image[self.top : self.top + self.height, self.left : self.left + self.width]


@dataclass(frozen=True)
class Frame:
    """The part of a picture that is looked at, and the size that it gets, in the middle of a black square."""

    window: Window
    height: int
    width: int
    bilinear: bool = False
    """The cheap filter, for random windows; below half the size it would skip pixels and is not used."""

    @property
    def reduction(self) -> int:
        """The smallest part of its size in which a picture can be decoded without any of its pixels being missed."""
        return next((n for n in REDUCTIONS if self.window.height >= n * self.height and self.window.width >= n * self.width), 1)

    def keeps(self, height: int, width: int) -> bool:
        """A picture of that size is shown as it is."""
        return self.window == Window(0, 0, height, width) and (self.height, self.width) == (height, width)

    def moved(self, before: tuple[int, int], now: tuple[int, int]) -> Frame:
        """The frame of the same part after a picture of one height and width was decoded in another."""
        if before == now:
            return self
        (top, bottom), (left, right) = (
            (round(start * small / large), round((start + length) * small / large))
            for start, length, large, small in zip(
                (self.window.top, self.window.left), (self.window.height, self.window.width), before, now, strict=True
            )
        )
        return replace(self, window=Window(top, left, bottom - top, right - left))

    def fill(self, image: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
        """Write what the frame shows of an image (H, W, C) into `out` (S, S, C), both uint8."""
        side = out.shape[0]
        if (self.height, self.width) != (side, side):
            out[...] = 0
        part = self.window.of(image)
        target = Window((side - self.height) // 2, (side - self.width) // 2, self.height, self.width).of(out)
        if part.shape == target.shape:
            target[...] = part
        else:
            cv2.resize(flat(part), (self.width, self.height), dst=flat(target), interpolation=self._filter(part))

    def _filter(self, part: NDArray[np.uint8]) -> int:
        """Area averaging downwards, cubic upwards, as OpenCV's documentation recommends."""
        height, width = part.shape[:2]
        if self.bilinear and (height < 2 * self.height or width < 2 * self.width):
            return cv2.INTER_LINEAR
        return cv2.INTER_AREA if self.width * self.height < width * height else cv2.INTER_CUBIC


Choose = Callable[[int, int], Frame]
"""The frame for a picture of some height and width."""


class Framing(ABC):
    """A transform that chooses a part of the picture; as the first one of a job it does so before the picture is made smaller."""

    @abstractmethod
    def frame(self, height: int, width: int, size: int, rng: np.random.Generator) -> Frame:
        """What becomes the image of (size, size) of a picture of that height and width."""


def flat(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same pixels; grey ones without the last axis, which OpenCV does not write to."""
    return image[:, :, 0] if image.shape[2] == 1 else image


def fit_frame(height: int, width: int, size: int, fit: str) -> Frame:
    """A picture as the model sees it without augmentation.

    Args:
        height: Of the picture.
        width: Of the picture.
        size: Side of the square in pixels.
        fit: `crop` (the middle square), `pad` (long side to size, black borders) or `squash` (both sides to size).
    """
    if fit == "squash":
        return Frame(Window(0, 0, height, width), size, size)
    if fit == "crop":
        # Cut before resizing: scaling all of a picture of 1 x 60,000 pixels to a short side of 224 would take gigabytes.
        side = min(height, width)
        return Frame(Window((height - side) // 2, (width - side) // 2, side, side), size, size)
    scale = size / max(height, width)
    return Frame(Window(0, 0, height, width), max(1, round(height * scale)), max(1, round(width * scale)))
