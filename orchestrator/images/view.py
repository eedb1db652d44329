"""What the model sees of a stored picture: the same for everybody who looks, whether for training, evaluation or a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from orchestrator.images.augment import augment
from orchestrator.images.decode import Content, decode_frame
from orchestrator.images.frame import Choose, Framing, fit_frame
from orchestrator.images.sniff import Header, sniff
from orchestrator.images.step import Step
from orchestrator.images.store import decode_picture, decode_stored, encode, unfit
from orchestrator.images.verdict import Rejection

HEAD_BYTES = 4096
"""Where the header of nearly every file ends."""


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

    def show(self, data: Content, out: NDArray[np.uint8]) -> None:
        """Write a picture as it is evaluated into `out`, (size, size, channels) uint8.

        Raises:
            DataError: The bytes do not hold such a picture.
        """
        self._show(data, partial(fit_frame, size=self.size, fit=self.fit), out)

    def show_augmented(self, data: Content, out: NDArray[np.uint8], steps: Sequence[Step], rng: np.random.Generator) -> None:
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
        changed = augment(out, steps, rng)
        if changed is not out:
            out[...] = changed

    def to_png(self, data: Content) -> bytes:
        """A picture as it is evaluated, as a PNG file."""
        image: NDArray[np.uint8] = np.empty((self.size, self.size, self.channels), np.uint8)
        self.show(data, image)
        return encode(image, "png", 95)

    def _show(self, data: Content, choose: Choose, out: NDArray[np.uint8]) -> None:
        if self.store == "original":
            header = _header_of(data)
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

    def _stored(self, data: Content, reduction: int) -> NDArray[np.uint8]:
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


def _header_of(data: Content) -> Header | Rejection:
    """A copy of the first bytes is enough, unless a camera has put more before the size."""
    header = sniff(bytes(data[:HEAD_BYTES]))
    return sniff(bytes(data)) if isinstance(header, Rejection) else header
