"""What the drivers of this folder have in common: one child for each line, which can be traced, killed or failed from outside.

A line of standard input is a folder and, after tabs, words for the work in it. The child stops itself before its first step; the
parent prints the child's process id, waits for whoever asked to let the child go on, and prints how it ended. Children start in
milliseconds, because the libraries are loaded once.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from ctypes import CDLL, c_ulong
from pathlib import Path

from orchestrator.errors import OrchestratorError

PR_SET_PTRACER = 0x59616D61
PR_SET_PTRACER_ANY = c_ulong(-1)
"""Lets a process that is no ancestor trace this one, where Linux does not by default."""

Work = Callable[[Path, Sequence[str]], None]


def serve(work: Work) -> None:
    """Answer standard input until it ends."""
    for line in sys.stdin:
        child = os.fork()
        if not child:
            place, *words = line.rstrip("\n").split("\t")
            _run_child(work, Path(place), words)
            os._exit(0)
        os.waitpid(child, os.WUNTRACED)
        _say(child)
        _say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def _run_child(work: Work, place: Path, words: Sequence[str]) -> None:
    """Work, and end with the exit code that the program would end with; what it says goes to a file of its own."""
    said = os.open(place / f"said-{os.getpid()}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(said, 2)
    CDLL(None).prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0)
    os.kill(os.getpid(), signal.SIGSTOP)
    try:
        work(place, words)
    except OrchestratorError as error:
        os.write(2, f"{error}\n".encode())
        os._exit(error.exit_code)


def _say(number: int) -> None:
    os.write(1, b"%d\n" % number)
