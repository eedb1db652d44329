"""The expendable child: `python -m orchestrator.images.serve` answers on stdout for every image on stdin, until stdin closes.

It may crash, hang or fill its memory; `isolated` starts it, and makes a verdict of that.
"""

from __future__ import annotations

import hashlib
import math
import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from orchestrator.images.complaints import weigh_complaints
from orchestrator.images.given import Seen
from orchestrator.images.picture import PixelWork, StoredPicture, prepare_picture
from orchestrator.images.verdict import Rejection
from orchestrator.images.wire import READY, REQUEST, WHOLE, answer_to_message, place_from_message, work_from_header

STDIN, STDOUT, STDERR = 0, 1, 2
BYTES_PER_PIXEL = 32
"""Room for the largest picture: the hungriest, a PNG with transparency, was seen to take 20; a third of the room is reserve."""
ROOM_BYTES = 256 << 20
"""Room besides: source file, result, what malloc keeps."""
SPOKEN_BYTES = 1 << 20
"""Standard error may grow to so much; nothing else is written to files."""


def serve(prepare: Callable[[bytes, PixelWork], StoredPicture | Rejection]) -> None:
    """Answer requests, one after the other, until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (SPOKEN_BYTES, SPOKEN_BYTES))
    own_bytes = _address_space()
    answers = os.dup(STDOUT)
    os.dup2(STDERR, STDOUT)
    _write(answers, READY)
    known, work = b"", None
    with os.fdopen(STDIN, "rb", closefd=False) as requests:
        while (request := _read_request(requests)) is not None:
            header, image = request
            if work is None or header != known:
                known, work = header, work_from_header(header)
                _limit(resource.RLIMIT_AS, own_bytes + ROOM_BYTES + work.max_pixels * BYTES_PER_PIXEL)
            _limit(resource.RLIMIT_CPU, math.ceil(time.process_time()) + work.decode_cpu_s)
            seen = None
            if image is not None:
                sha256 = hashlib.sha256(image).hexdigest()
                seen = Seen(len(image), sha256, weigh_complaints(prepare(image, work), _take_spoken()))
            _write(answers, answer_to_message(seen))


def _read_request(requests: BinaryIO) -> tuple[bytes, bytes | None] | None:
    """Header and image, or no image where it does not lie where it should; None at the end, also when it comes in the middle."""
    lengths = requests.read(REQUEST.size)
    if len(lengths) < REQUEST.size:
        return None
    is_place, header_bytes, data_bytes = REQUEST.unpack(lengths)
    header, data = requests.read(header_bytes), requests.read(data_bytes)
    if len(data) < data_bytes:
        return None
    return header, _read_place(*place_from_message(data)) if is_place else data


def _read_place(path: bytes, start: int, size: int) -> bytes | None:
    """An image from its file; None where there is no such file, or more or less in it than was said."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        image = os.pread(descriptor, size + 1, 0) if start == WHOLE else os.pread(descriptor, size, start)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return image if len(image) == size else None


def _write(descriptor: int, message: bytes) -> None:
    rest = memoryview(message)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _address_space() -> int:
    """Bytes that this process has mapped."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * resource.getpagesize()


def _limit(what: int, value: int) -> None:
    """The soft limit alone, which may be raised again for the next image."""
    _, hard = resource.getrlimit(what)
    resource.setrlimit(what, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _take_spoken() -> str:
    """What was written to standard error, a file, since the last image."""
    size = os.fstat(STDERR).st_size
    if not size:
        return ""
    spoken = os.pread(STDERR, size, 0)
    os.ftruncate(STDERR, 0)
    os.lseek(STDERR, 0, os.SEEK_SET)
    return spoken.decode("utf-8", "replace")


if __name__ == "__main__":
    serve(prepare_picture)
