"""A child whose decoder does what broken decoders do, when an image begins with the name of it."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from orchestrator.images.picture import PixelWork, StoredPicture, prepare_picture
from orchestrator.images.serve import serve
from orchestrator.images.verdict import Rejection
from orchestrator.images.wire import LENGTHS

COMMAND = (sys.executable, "-P", __file__)


def die(number: signal.Signals) -> None:
    """As the kernel ends a process that does what it must not."""
    os.kill(os.getpid(), number)


def spin() -> None:
    while True:
        pass


def allocate() -> None:
    """More than any allowed picture needs."""
    bytearray(1 << 46)


def run_out_in_c() -> None:
    """The last words of a C++ program whose allocation failed, and its end."""
    os.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\n")
    os.abort()


def answer_nonsense() -> None:
    """A message of the right form without a meaning, to the descriptor that was the first free one when `serve` began."""
    os.write(3, LENGTHS.pack(4, 0) + b"what")


def answer_without_end() -> None:
    """Lengths that no picture has."""
    os.write(3, b"\xff" * LENGTHS.size)


def raise_error() -> None:
    raise ValueError("a picture of shape ()")


FAULTS: dict[bytes, Callable[[], None]] = {
    b"segfault": lambda: die(signal.SIGSEGV),
    b"killed": lambda: die(signal.SIGKILL),
    b"abort": os.abort,
    b"spin": spin,
    b"sleep": lambda: time.sleep(3600),
    b"allocate": allocate,
    b"bad_alloc": run_out_in_c,
    b"nonsense": answer_nonsense,
    b"endless": answer_without_end,
    b"raise": raise_error,
    b"complain": lambda: print("Corrupt JPEG data: bad Huffman code", file=sys.stderr),  # noqa: T201 -- what libjpeg does
}


def prepare_or_fail(data: bytes, work: PixelWork) -> StoredPicture | Rejection:
    """`prepare_picture` behind the fault that the bytes name; `once:FILE:` before the name means while there is no such file."""
    name = data
    if data.startswith(b"once:"):
        _, mark, name = data.split(b":")
        if Path(os.fsdecode(mark)).exists():
            name = b""
        else:
            os.close(os.open(mark, os.O_CREAT))
    if name in FAULTS:
        FAULTS[name]()
    return prepare_picture(data, work)


if __name__ == "__main__":
    serve(prepare_or_fail)
