"""What the model sees of a stored picture: the same for everybody who looks, whether for training, evaluation or a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from orchestrator.images.augment import augment
from orchestrator.images.decode import decode_frame
from orchestrator.images.frame import Choose, Frame, fit_frame
from orchestrator.images.sniff import sniff
from orchestrator.images.step import Step
from orchestrator.images.store import decode_picture, decode_stored, encode, unfit
from orchestrator.images.verdict import Rejection


@runtime_checkable
class Framing(Protocol):
    """A transform that chooses a part of the picture; as the first one of a job it does so before the picture is made smaller."""

    def frame(self, height: int, width: int, size: int, rng: np.random.Generator) -> Frame:
        """What becomes the image of (size, size) of a picture of that height and width."""
        ...


@dataclass(frozen=True)
class View:
    """How stored pictures become images."""

    store: str
    """`original`, `jpeg`, `png` or `raw`."""
    side: int
    """Of the stored pictures, in pixels; originals have any."""
    size: int
    """Side of the images in pixels."""
    channels: int
    """3 for RGB, 1 for grey."""
    fit: str
    """`crop`, `pad` or `squash`."""

    def show(self, data: bytes, out: NDArray[np.uint8]) -> None:
        """Write a picture as it is evaluated into `out`, (size, size, channels) uint8.

        Raises:
            DataError: The bytes do not hold such a picture.
        """
        self._show(data, partial(fit_frame, size=self.size, fit=self.fit), out)

    def show_augmented(self, data: bytes, out: NDArray[np.uint8], steps: Sequence[Step], rng: np.random.Generator) -> None:
        """Write a picture as it is trained on into `out`, (size, size, channels) uint8.

        Raises:
            DataError: The bytes do not hold such a picture.
            TrainingError: A transform of the user's failed.
        """
        if steps and isinstance(steps[0], Framing):
            self._show(data, partial(steps[0].frame, size=self.size, rng=rng), out)
            steps = steps[1:]
        else:
            self.show(data, out)
        if steps:
            out[...] = augment(out, steps, rng)

    def to_png(self, data: bytes) -> bytes:
        """A picture as it is evaluated, as a PNG file."""
        image: NDArray[np.uint8] = np.empty((self.size, self.size, self.channels), np.uint8)
        self.show(data, image)
        return encode(image, "png", 95)

    def _show(self, data: bytes, choose: Choose, out: NDArray[np.uint8]) -> None:
        if self.store == "original":
            header = sniff(data)
            if isinstance(header, Rejection) or isinstance(decode_frame(data, header, choose, out), Rejection):
                raise unfit(data, self.store, out.shape)
            return
        stored = (self.side, self.side)
        frame = choose(*stored)
        if frame.keeps(*stored):
            decode_stored(data, self.store, out)
            return
        image = self._stored(data, frame.reduction if self.store == "jpeg" else 1)
        frame.moved(stored, (image.shape[0], image.shape[1])).fill(image, out)

    def _stored(self, data: bytes, reduction: int) -> NDArray[np.uint8]:
        """A whole stored picture, or a JPEG reduced."""
        shape = (-(-self.side // reduction), -(-self.side // reduction), self.channels)
        if self.store == "raw":
            if len(data) != self.side * self.side * self.channels:
                raise unfit(data, self.store, shape)
            return np.frombuffer(data, np.uint8).reshape(shape)
        image = decode_picture(data, self.channels, reduction)
        if image is None or image.shape[:2] != shape[:2]:
            raise unfit(data, self.store, shape)
        return image.reshape(shape)
