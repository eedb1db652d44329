"""One process at a time works on a run."""

from __future__ import annotations

import fcntl
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from orchestrator.durable import storage_error
from orchestrator.errors import StorageError

PATIENCE_S = 1.0
"""`holder` takes the lock for a moment; who wants to keep it waits that out."""


@dataclass(frozen=True)
class Holder:
    """The process that works on a run."""

    pid: int
    host: str

    @property
    def is_here(self) -> bool:
        return self.host == platform.node()

    def __str__(self) -> str:
        return f"process {self.pid}" + ("" if self.is_here else f" on {self.host}")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder/.lock`; the kernel lets go of it when this process ends, however it ends.

    Raises:
        StorageError: Another process holds it, or the folder cannot be written.
    """
    path = folder / ".lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise storage_error(error, path) from error
    try:
        if not _taken(descriptor, PATIENCE_S):
            by = _read_holder(descriptor)
            raise StorageError(f"{folder.name} is being worked on by {by or 'another process'}", "wait for it, or stop it first")
        try:
            os.truncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()} {platform.node()}".encode(), 0)
        except OSError as error:
            raise storage_error(error, path) from error
        yield
    finally:
        os.close(descriptor)


def holder(folder: Path) -> Holder | None:
    """Who works on the run now; nobody when its process has ended, however it ended."""
    try:
        descriptor = os.open(folder / ".lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return None if _taken(descriptor, 0.0) else _read_holder(descriptor)
    finally:
        os.close(descriptor)


def _taken(descriptor: int, patience_s: float) -> bool:
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.05)
        else:
            return True


def _read_holder(descriptor: int) -> Holder | None:
    pid, _, host = os.pread(descriptor, 300, 0).decode("utf-8", "replace").strip().partition(" ")
    return Holder(int(pid), host) if pid.isdigit() else None
