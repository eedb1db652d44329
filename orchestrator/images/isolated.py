"""Images decoded by an expendable child process: whatever an image does to its decoder, this process gets a verdict."""

from __future__ import annotations

import atexit
import hashlib
import os
import sys
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

from orchestrator.images.child import Child, ChildEnded
from orchestrator.images.given import Given, Seen
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

    def run(self, images: Iterable[Given], work: PixelWork) -> Iterator[StoredPicture | Rejection]:
        """What `see` says, without the facts about the files."""
        with closing(self.see(images, work)) as all_seen:
            for seen in all_seen:
                yield seen.result

    def see(self, images: Iterable[Given], work: PixelWork) -> Generator[Seen]:
        """Prepare images, in their order. A caller that stops early costs the child.

        Raises:
            OrchestratorError: The child does not start, or an image could not be read.
        """
        if self._busy:
            raise RuntimeError("this picture process is in use; one caller at a time")
        self._busy = True
        sent: deque[Given] = deque()
        header = work_to_header(work)
        try:
            child = self._child_for(work)
            for image in images:
                sent.append(image)
                child.send(header, image)
                if len(sent) > IN_FLIGHT:
                    child, seen = self._receive(child, sent, work)
                    yield seen
            while sent:
                child, seen = self._receive(child, sent, work)
                yield seen
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

    def _receive(self, child: Child, sent: deque[Given], work: PixelWork) -> tuple[Child, Seen]:
        """What came of the image that was sent first, and the child that has the others now."""
        deaths = 0
        while True:
            try:
                seen = child.receive(work.decode_wall_s)
            except ChildEnded as end:
                deaths += 1
                self._child = None
                blamed = deaths == TRIES or end.verdict.reason is Reason.DECODE_TIMEOUT
                verdict = _blamed(sent.popleft(), end.verdict) if blamed else None
                child = self._send_again(sent, work)
                if verdict is not None:
                    return child, verdict
            else:
                if seen is not None:
                    sent.popleft()
                    return child, seen
                sent[0] = _content(sent[0])
                self.close()
                child = self._send_again(sent, work)

    def _send_again(self, sent: Iterable[Given], work: PixelWork) -> Child:
        """A new child, to which everything is sent that has no answer."""
        child, header = self._child_for(work), work_to_header(work)
        for image in sent:
            child.send(header, image)
        return child


def _content(image: Given) -> bytes:
    return image if isinstance(image, bytes) else image.read()


def _blamed(image: Given, verdict: Rejection) -> Seen:
    """Of an image over which its process died."""
    content = _content(image)
    return Seen(len(content), hashlib.sha256(content).hexdigest(), verdict)


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
