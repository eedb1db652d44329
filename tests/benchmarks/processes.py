"""What the processes of a run cost, read from /proc: one process and all that it started.

Imports the standard library alone, so that it runs in the environment of every program that is compared.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
SAMPLE_S = 0.2
WORKER_MARKS = (b"ray::", b"default_worker.py")
"""In the command line of a worker, at work or just started."""
HELD = ("Pss_Anon:", "Pss_File:")
"""Lines of smaps_rollup. Shared pages count in parts that add up to one; pages of the object store, Pss_Shmem, are left out."""


class Role(StrEnum):
    """Which part of a run a process belongs to."""

    DRIVER = "driver"
    """The program itself, in which Ray Train decides about its group."""
    WORKER = "workers"
    """A worker of Ray, and what it starts."""
    EXECUTOR = "executor"
    """The worker of Ray in which Ray Data decides what is read next."""
    CONSUMER = "consumers"
    """Workers of Ray that train, or would."""
    RAY = "ray"
    """What Ray itself runs: raylet, control store, agents."""


BEGINNINGS = {
    b"ray::DashboardAgent": Role.RAY,
    b"ray::RuntimeEnvAgent": Role.RAY,
    b"ray::SplitCoordinator": Role.EXECUTOR,
    b"ray::RayTrainWorker": Role.CONSUMER,
}
"""How the command lines begin of what is no common worker of Ray."""
RAYLET = b"/raylet"
"""How the program ends that starts the workers, and has the mark of a worker among its arguments."""


def plain_environment() -> dict[str, str]:
    """For programs that are compared with ours: without what we tell glibc for Ray's processes."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}


def cpu_seconds(root: int | None = None) -> dict[int, tuple[Role, float]]:
    """What each living process of the run has used so far, with children that ended.

    Args:
        root: The process that started the others; this one by default.
    """
    return {pid: (role, _cpu_of(pid)) for pid, role in _family(root)}


def cpu_between(before: dict[int, tuple[Role, float]], after: dict[int, tuple[Role, float]]) -> dict[Role, float]:
    """CPU seconds of each role; of a process that was started and ended in between, only what its parent was told."""
    used = dict.fromkeys(Role, 0.0)
    for pid, (role, seconds) in after.items():
        used[role] += seconds - (before[pid][1] if pid in before else 0.0)
    return used


class MemoryWatch:
    """The largest sum of the memory of all processes of the run while the context lasts, sampled five times a second."""

    def __init__(self, root: int | None = None) -> None:
        self._root = root
        self.first_bytes = self.peak_bytes = memory_bytes(root)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._done.wait(SAMPLE_S):
            self.peak_bytes = max(self.peak_bytes, memory_bytes(self._root))


def memory_bytes(root: int | None = None) -> int:
    """Of all processes of the run, without the object store."""
    return sum(_held_by(pid) for pid, _ in _family(root))


def _family(root: int | None) -> list[tuple[int, Role]]:
    """A process, this one by default, and its descendants."""
    children: dict[int, list[int]] = {}
    for pid, parent in _parents():
        children.setdefault(parent, []).append(pid)
    family = [(root or os.getpid(), Role.DRIVER)]
    for pid, role in family:  # grows while it is walked
        family.extend((child, _role(child) if role in (Role.DRIVER, Role.RAY) else role) for child in children.get(pid, []))
    return family


def _parents() -> Iterator[tuple[int, int]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            yield int(entry.name), int(fields[1])


def _role(pid: int) -> Role:
    command = _read(pid, "cmdline")
    if command.partition(b"\0")[0].endswith(RAYLET):
        return Role.RAY
    known = next((role for beginning, role in BEGINNINGS.items() if command.startswith(beginning)), None)
    return known or (Role.WORKER if any(mark in command for mark in WORKER_MARKS) else Role.RAY)


def _stat(pid: int) -> list[bytes]:
    """The fields from the state on, after the name, which may hold anything; none where the process is gone."""
    return _read(pid, "stat").rpartition(b")")[2].split()


def _cpu_of(pid: int) -> float:
    """User and system time, of the process and of its children that ended and were waited for."""
    return sum(int(ticks) for ticks in _stat(pid)[11:15]) / TICKS_PER_S


def _held_by(pid: int) -> int:
    lines = _read(pid, "smaps_rollup").decode().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(HELD))


def _read(pid: int, name: str) -> bytes:
    """Nothing where the process is gone."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
