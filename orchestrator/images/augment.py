"""Random changes to training images: the transforms of a job in their order, and the randomness of each image."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from orchestrator.images.step import Image, Step


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
