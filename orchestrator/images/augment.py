"""Random changes to training images: frozen values, uint8 in and out, randomness as an argument."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

cv2.setNumThreads(0)

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class RandomCrop:
    """A window of the original size, shifted by up to `padding` pixels over a reflected border."""

    padding: int

    def apply(self, image: Image, rng: np.random.Generator) -> Image:
        """(H, W, C) uint8 to the same shape."""
        top, left = rng.integers(0, 2 * self.padding + 1, size=2).tolist()
        height, width = image.shape[:2]
        padding = min(self.padding, height - 1, width - 1)
        padded: Image = cv2.copyMakeBorder(image, self.padding, self.padding, self.padding, self.padding, _border(self.padding, padding))
        return padded.reshape(height + 2 * self.padding, width + 2 * self.padding, -1)[top : top + height, left : left + width]


def _border(asked: int, possible: int) -> int:
    """Reflection needs a border narrower than the picture; wider ones repeat the edge."""
    return cv2.BORDER_REFLECT_101 if asked == possible else cv2.BORDER_REPLICATE


@dataclass(frozen=True)
class HorizontalFlip:
    """Left to right, for a share of the images."""

    probability: float

    def apply(self, image: Image, rng: np.random.Generator) -> Image:
        """(H, W, C) uint8 to the same shape."""
        return image[:, ::-1] if rng.random() < self.probability else image


Step = RandomCrop | HorizontalFlip


def augmentation_rng(seed: int, epoch: int, sample_id: bytes) -> np.random.Generator:
    """The randomness of one image in one epoch: the same on every worker, machine and resume.

    Philox takes a 128-bit key as it is, which is cheaper than spreading a seed.
    """
    digest = hashlib.blake2b(f"{seed}:{epoch}:".encode() + sample_id, digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


def augment(image: Image, steps: Sequence[Step], rng: np.random.Generator) -> Image:
    """Apply the steps in their order."""
    for step in steps:
        image = step.apply(image, rng)
    return image
