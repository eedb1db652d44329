"""Images decoded by an expendable child process: whatever an image does to its decoder, this process gets a verdict."""

from __future__ import annotations

import atexit
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

from orchestrator.images.child import Child, ChildEnded
from orchestrator.images.picture import PixelWork, StoredPicture
from orchestrator.images.verdict import Reason, Rejection
from orchestrator.images.wire import work_to_header

COMMAND = (sys.executable, "-P", "-m", "orchestrator.images.serve")
IN_FLIGHT = 4
"""Images sent ahead, so that the child has the next one while its caller reads and hashes another."""
TRIES = 2
"""Children that an image may take down before it is blamed: one may have been killed from outside, for want of memory for instance."""


class PictureProcess:
    """A child process that prepares pictures, started when it is first needed and again whenever it has died.

    One caller at a time. The child ends with this process, however this process ends.
    """

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        self._command = command
        self._child: Child | None = None
        self._max_pixels = 0
        self._busy = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the child; the next use starts another."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    def run(self, images: Iterable[bytes], work: PixelWork) -> Iterator[StoredPicture | Rejection]:
        """Prepare images, in their order. A caller that stops early costs the child.

        Raises:
            OrchestratorError: The child does not start.
        """
        if self._busy:
            raise RuntimeError("this picture process is in use; one caller at a time")
        self._busy = True
        sent: deque[bytes] = deque()
        header = work_to_header(work)
        try:
            child = self._child_for(work)
            for image in images:
                sent.append(image)
                child.send(header, image)
                if len(sent) > IN_FLIGHT:
                    child, result = self._receive(child, sent, work)
                    yield result
            while sent:
                child, result = self._receive(child, sent, work)
                yield result
        finally:
            if sent:
                self.close()
            self._busy = False

    def _child_for(self, work: PixelWork) -> Child:
        """The limit on pixels is read by OpenCV as it is loaded, so that another limit needs another child."""
        if self._child is not None and self._max_pixels != work.max_pixels:
            self.close()
        if self._child is None:
            self._child = Child(self._command, _environment(work.max_pixels))
            self._max_pixels = work.max_pixels
        return self._child

    def _receive(self, child: Child, sent: deque[bytes], work: PixelWork) -> tuple[Child, StoredPicture | Rejection]:
        """The result for the image that was sent first, and the child that has the others now."""
        deaths = 0
        while True:
            try:
                result = child.receive(work.decode_wall_s)
            except ChildEnded as end:
                deaths += 1
                blamed = deaths == TRIES or end.verdict.reason is Reason.DECODE_TIMEOUT
                if blamed:
                    sent.popleft()
                self._child = None
                child = self._child_for(work)
                for image in sent:
                    child.send(work_to_header(work), image)
                if blamed:
                    return child, end.verdict
            else:
                sent.popleft()
                return child, result


@cache
def picture_process() -> PictureProcess:
    """The one that all work in this process shares; it ends with the process."""
    pictures = PictureProcess()
    atexit.register(pictures.close)
    return pictures


def _environment(max_pixels: int) -> dict[str, str]:
    """Modules come from where this process has them; glibc keeps freed memory, which the next picture takes again."""
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
        "OPENBLAS_NUM_THREADS": "1",
        "OPENCV_IO_MAX_IMAGE_PIXELS": str(max_pixels),
        "MALLOC_MMAP_THRESHOLD_": str(32 << 20),  # the most that glibc takes
        "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
    }
