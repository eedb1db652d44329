"""The processes of a program that was started in a folder: itself, Ray's, and Ray's workers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

IDLE_FOR_LONG = (b"ray::DashboardAgent", b"ray::RuntimeEnvAgent")
"""They outlive a killed program by up to half a minute, and touch no data."""


def working_in(place: Path) -> Iterator[int]:
    """Process ids of all that may still write something below `place`, where the program was started."""
    return (pid for pid in living_in(place) if not title_of(pid).startswith(IDLE_FOR_LONG))


def busy_workers(place: Path) -> Iterator[int]:
    """Those of them that are Ray workers with a unit in hand."""
    return (pid for pid in living_in(place) if title_of(pid).startswith(b"ray::") and b"prepare_block" in title_of(pid))


def living_in(place: Path) -> Iterator[int]:
    """Process ids of all whose working directory is `place`, which everything that a program starts takes over from it."""
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if process.name.isdecimal() and (process / "cwd").readlink() == place and int(process.name) != os.getpid():
                yield int(process.name)


def title_of(pid: int) -> bytes:
    """The command line; Ray writes there what a worker does. Empty for a process that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
