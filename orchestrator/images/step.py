"""What every transform of training images is: a frozen value, uint8 in and out, randomness as an argument."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
"""(H, W, C), RGB or grey."""
Range = tuple[float, float]
"""The smallest and the largest value that may be drawn."""


class Step(Protocol):
    """One transform; the image it is given stays as it is."""

    def apply(self, image: Image, rng: np.random.Generator) -> Image:
        """(H, W, C) uint8 to the same shape."""
        ...


@dataclass(frozen=True)
class Sometimes(ABC):
    """A transform of a share of the images."""

    probability: float
    """Share of the images that are changed."""

    def apply(self, image: Image, rng: np.random.Generator) -> Image:
        """One draw decides; the draws of the change follow only where there is one."""
        return self.change(image, rng) if rng.random() < self.probability else image

    @abstractmethod
    def change(self, image: Image, rng: np.random.Generator) -> Image:
        """(H, W, C) uint8 to the same shape."""


def shaped(changed: Any, image: Image) -> Image:
    """What OpenCV made of an image, in its shape: OpenCV leaves out the last axis of grey images."""
    restored: Image = changed.reshape(image.shape)
    return restored
