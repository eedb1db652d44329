"""Random changes to training images: the transforms of a job in their order, and the randomness of each image."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.random.bit_generator import ISeedSequence
from numpy.typing import NDArray

from orchestrator.images.step import Image, Step


def augmentation_rng(seed: int, epoch: int, sample_id: bytes) -> np.random.Generator:
    """The randomness of one image in one epoch: the same on every worker, machine and resume.

    Philox takes a 128-bit key as it is, which is cheaper than spreading a seed.
    """
    digest = hashlib.blake2b(f"{seed}:{epoch}:".encode() + sample_id, digest_size=16).digest()
    return np.random.Generator(np.random.Philox(_Key(digest)))  # type: ignore[arg-type]  # any ISeedSequence will do


class _Key(ISeedSequence):
    """Hands over a key; the argument `key` of Philox does the same, but asks the system for randomness before."""

    def __init__(self, digest: bytes) -> None:
        self._words = np.frombuffer(digest, "<u8")

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> NDArray[np.uint64]:
        """Called once, for as many words of 64 bits as the digest has."""
        assert (n_words, dtype) == (len(self._words), np.uint64)  # noqa: S101 -- nothing else asks
        return self._words


def augment(image: Image, steps: Sequence[Step], rng: np.random.Generator) -> Image:
    """Apply the steps in their order."""
    for step in steps:
        image = step.apply(image, rng)
    return image
