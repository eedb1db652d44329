"""Children of a fork server, let go on alone or under strace, which logs, kills, or fails their system calls."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

CHANGING = (
    *("openat", "mkdir", "write", "pwrite64", "ftruncate", "truncate", "fsync", "fdatasync"),
    *("rename", "renameat2", "link", "unlink", "unlinkat", "rmdir"),
)
"""System calls by which files come to be, change and go."""
LINE = re.compile(r"(?P<name>\w+)\((?P<arguments>.*?)(?:\) += (?P<result>.*)| <unfinished \.\.\.>)?$")
PATH = re.compile(r'<(/[^>]*)>|"(/[^"]*)"')
Point = TypeVar("Point")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Call:
    """One system call, as strace wrote it down."""

    name: str
    nth: int
    """The how-manieth of that name, from 1: how strace is told of it."""
    paths: tuple[Path, ...]
    arguments: str
    result: str

    @property
    def succeeded(self) -> bool:
        return self.result[:1].isdigit()

    def changes(self, place: Path) -> bool:
        """Whether it makes, changes, moves, or makes durable something below `place`."""
        return any(path.is_relative_to(place) for path in self.paths) and not (self.name == "openat" and "O_RDONLY" in self.arguments)

    def __str__(self) -> str:
        return f"{self.name} {self.nth} on {', '.join(map(str, self.paths))}"


def parse_log(text: str) -> list[Call]:
    """The calls in their order; the last one has no result where it was the end."""
    calls: list[Call] = []
    counts: Counter[str] = Counter()
    for line in text.splitlines():
        found = LINE.match(line)
        if not found:
            continue
        counts[found["name"]] += 1
        paths = tuple(Path(first or second) for first, second in PATH.findall(found["arguments"]))
        calls.append(Call(found["name"], counts[found["name"]], paths, found["arguments"], found["result"] or ""))
    return calls


def kill_at(call: Call) -> tuple[str, str]:
    """The option of strace that kills the process instead of its making this call."""
    return "-e", f"inject={call.name}:signal=SIGKILL:when={call.nth}"


class CannotTraceError(Exception):
    """What strace says of it."""


@dataclass(frozen=True)
class Ended:
    """How a child ended."""

    code: int
    """Its exit code; negative for the signal that killed it."""
    said: str


class ForkServer:
    """One process of a driver; one child at a time.

    Args:
        driver: A script of this folder that calls `fork_server.serve`.
        arguments: Its command line.
    """

    def __init__(self, driver: str, *arguments: str | Path) -> None:
        command = [sys.executable, str(Path(__file__).with_name(driver)), *map(str, arguments)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, place: Path, *words: str) -> Ended:
        """Work below `place`, undisturbed."""
        child = self._start(place, words)
        os.kill(child, signal.SIGCONT)
        return self._end(place, child)

    def trace(
        self, place: Path, log: Path, *options: str, words: Sequence[str] = (), meanwhile: Callable[[int], None] = lambda _: None
    ) -> Ended:
        """The same under strace, which attaches before the first step, to the thread that does all writing and to no other process.

        Args:
            place: Where to work.
            log: Where strace writes the system calls down.
            options: Further ones of strace.
            words: For the work.
            meanwhile: Called with the process id when the child has been let go on.
        """
        child = self._start(place, words)
        command = ["strace", "-y", "-s", "4096", "-e", f"trace={','.join(CHANGING)}", *options, "-o", str(log), "-p", str(child)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
            assert strace.stderr is not None
            attached = strace.stderr.readline()
            os.kill(child, signal.SIGCONT)
            try:
                meanwhile(child)
            except BaseException:
                os.kill(child, signal.SIGKILL)
                raise
            finally:
                ended = self._end(place, child)
            if "attached" not in attached:
                raise CannotTraceError(attached + strace.stderr.read())
        return ended

    def close(self) -> None:
        self._process.communicate(timeout=60)

    def _start(self, place: Path, words: Sequence[str]) -> int:
        assert self._process.stdin is not None
        place.mkdir(parents=True, exist_ok=True)
        self._process.stdin.write("\t".join([str(place), *words]) + "\n")
        self._process.stdin.flush()
        return int(self._answer())

    def _end(self, place: Path, child: int) -> Ended:
        return Ended(int(self._answer()), (place / f"said-{child}.txt").read_text())

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


class ForkServers:
    """Several alike, for many points at a time."""

    def __init__(self, count: int, driver: str, *arguments: str | Path) -> None:
        self._all = [ForkServer(driver, *arguments) for _ in range(count)]
        self._idle: SimpleQueue[ForkServer] = SimpleQueue()
        for server in self._all:
            self._idle.put(server)

    def one(self) -> ForkServer:
        return self._all[0]

    def at_each(self, points: Sequence[Point], visit: Callable[[ForkServer, Point], Result]) -> list[Result]:
        """What `visit` finds at each point, in their order."""

        def visit_with_one(point: Point) -> Result:
            server = self._idle.get()
            try:
                return visit(server, point)
            finally:
                self._idle.put(server)

        with ThreadPoolExecutor(len(self._all)) as threads:
            return list(threads.map(visit_with_one, points))

    def close(self) -> None:
        for server in self._all:
            server.close()
