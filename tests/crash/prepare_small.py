"""A process that prepares small data sets, each in a child of its own that can be traced, killed or failed from outside.

Reads one folder a line from standard input. For each it forks a child, which stops itself before its first step; the parent
prints the child's process id, waits for whoever asked to let the child go on, and prints how it ended. Children start in
milliseconds, because the libraries are loaded once, and neither Ray nor torch is among them.

With the argument `unlocked` they take no lock on the data, as on storage that carries no locks from host to host.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from ctypes import CDLL, c_ulong
from pathlib import Path
from typing import Any

import pandas as pd  # noqa: F401 -- pyarrow imports these two when they are first needed; children find them loaded
import pyarrow.dataset  # noqa: F401

from orchestrator.dataset.commit import UnitRecord
from orchestrator.dataset.health import HEALTH, write_health
from orchestrator.dataset.manifest import is_prepared
from orchestrator.dataset.splits import remember_splits
from orchestrator.dataset.units import Unit
from orchestrator.errors import OrchestratorError
from orchestrator.images.picture import PixelWork, StoredPicture, prepare_picture
from orchestrator.images.verdict import Rejection
from orchestrator.launch.images import find_images
from orchestrator.plan.values import PreparePlan
from orchestrator.record.journal import Journal
from orchestrator.record.lock import locked
from orchestrator.spec.job import DataSpec, ImageSpec, SplitSpec
from orchestrator.stages import prepare as stage
from orchestrator.stages.engine import PrepareWork
from orchestrator.stages.prepare import PrepareRequest, prepare_data, prepare_unit
from orchestrator.stages.stopping import StopRequest

UNIT_ROWS = 6
PR_SET_PTRACER = 0x59616D61
PR_SET_PTRACER_ANY = c_ulong(-1)
"""Lets a process that is no ancestor trace this one, where Linux does not by default."""


class OneByOne:
    """Prepares the units in this process; nothing else is asked of it."""

    def prepare(self, work: PrepareWork, units: Sequence[Unit], parallel: int) -> Iterator[UnitRecord]:  # noqa: ARG002 -- one at a time
        return (prepare_unit(work, unit) for unit in units)

    def run_group(self, *_: Any) -> Any:
        raise AssertionError("nothing is trained here")


class HerePictures:
    """Makes pictures in this process: a child of its own for each of hundreds of children would take minutes, and writes nothing."""

    def run(self, images: Iterable[bytes], work: PixelWork) -> Iterator[StoredPicture | Rejection]:
        return (prepare_picture(image, work) for image in images)


def prepare(source: Path, place: Path, *, unlocked: bool) -> None:
    """The stage prepare of a run, step by step as a run does it."""
    spec = DataSpec(source=str(source), image=ImageSpec(size=16, store="png"), split=SplitSpec(validation=0.25, test=0))
    found = find_images(spec, place / "data")
    data = place / "data" / found.fingerprint
    remember_splits(found.splits, found.table, found.before)
    request = PrepareRequest(spec, data, found.fingerprint, found.recipe, found.listing, found.table, PreparePlan(UNIT_ROWS, parallel=1))
    with nullcontext() if unlocked or is_prepared(data) else locked(data):
        manifest = prepare_data(request, OneByOne(), Journal(place / "events", "prepare-driver", "prepare"), StopRequest(place / "stop"))
    if not (data / HEALTH).is_file():
        write_health(data, manifest)


def run_child(source: Path, place: Path, *, unlocked: bool) -> None:
    """Prepare, and end with the exit code that the program would end with; what it says goes to a file of its own."""
    said = os.open(place / f"said-{os.getpid()}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(said, 2)
    CDLL(None).prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0)
    os.kill(os.getpid(), signal.SIGSTOP)
    try:
        prepare(source, place, unlocked=unlocked)
    except OrchestratorError as error:
        os.write(2, f"{error}\n".encode())
        os._exit(error.exit_code)


def say(number: int) -> None:
    os.write(1, b"%d\n" % number)


def main() -> None:
    source = Path(sys.argv[1])
    stage.picture_process = HerePictures  # type: ignore[assignment]
    for line in sys.stdin:
        child = os.fork()
        if not child:
            run_child(source, Path(line.rstrip("\n")), unlocked="unlocked" in sys.argv[2:])
            sys.exit()
        os.waitpid(child, os.WUNTRACED)
        say(child)
        say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


if __name__ == "__main__":
    main()
