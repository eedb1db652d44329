"""Programs that run at the same time, one pinned to each core: how they are started together, and what it took."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processes import plain_environment


@dataclass(frozen=True)
class PinnedTime:
    """What it took."""

    seconds: float
    """From the common start until the last program is done; starting processes and importing do not count."""
    cpu_s: float
    """Of all programs together."""
    peak_bytes: int
    """Of all programs together, the sum of the largest memory of each."""


def cores() -> list[int]:
    """Those that this process may use."""
    return sorted(os.sched_getaffinity(0))


def run_pinned(program: Path, orders: Sequence[dict[str, Any]]) -> PinnedTime:
    """The program with one order for each core, all started at once. An order is plain data."""
    with ExitStack() as ends:
        running = [ends.enter_context(_start(program)) for _ in orders]
        for one, order, core in zip(running, orders, cores(), strict=True):
            _tell(one, {"core": core, "order": order})
        for one in running:
            _answer(one)
        started = time.perf_counter()
        for one in running:
            _tell(one, "go")
        answers = [_answer(one) for one in running]
        seconds = time.perf_counter() - started
    return PinnedTime(seconds, sum(answer["cpu_s"] for answer in answers), sum(answer["peak_bytes"] for answer in answers))


def serve(work: Callable[[dict[str, Any]], None]) -> None:
    """The program on one core: it is told what to do, says that it is ready, waits for the start, and answers what it used."""
    message = json.loads(sys.stdin.readline())
    os.sched_setaffinity(0, {message["core"]})
    _reply("ready")
    sys.stdin.readline()
    before = time.process_time()
    work(message["order"])
    _reply({"cpu_s": time.process_time() - before, "peak_bytes": _peak_bytes()})


def _peak_bytes() -> int:
    """`ru_maxrss` would be that of the process which started this one, if it was larger."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def _start(program: Path) -> subprocess.Popen[str]:
    command = [sys.executable, str(program)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=plain_environment())


def _tell(process: subprocess.Popen[str], message: Any) -> None:
    assert process.stdin
    process.stdin.write(json.dumps(message) + "\n")
    process.stdin.flush()


def _answer(process: subprocess.Popen[str]) -> Any:
    assert process.stdout
    return json.loads(process.stdout.readline())


def _reply(message: Any) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()
