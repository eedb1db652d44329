"""What a process that decodes is given, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from orchestrator.images.picture import StoredPicture
from orchestrator.images.verdict import Rejection


class LocatedImage(Protocol):
    """An image in a file of this machine, for the process that decodes to read: its bytes need not travel then."""

    @property
    def path(self) -> bytes:
        """Of the file."""
        ...

    @property
    def start(self) -> int | None:
        """The first byte of the image in the file; None where the file is the image."""
        ...

    @property
    def size(self) -> int:
        """Bytes of the image."""
        ...

    def read(self) -> bytes:
        """Its content, read here: asked for where the other process does not find it as described, or died over it.

        Raises:
            OrchestratorError: What is wrong with the file.
        """
        ...


Given = bytes | LocatedImage
"""The content of an image file, or where it lies."""


@dataclass(frozen=True)
class Seen:
    """What came of an image."""

    size: int
    """Bytes of its file."""
    sha256: str
    """Of its file, in hex."""
    result: StoredPicture | Rejection
