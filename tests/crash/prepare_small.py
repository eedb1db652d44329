"""A fork server that prepares small data sets; neither Ray nor torch is loaded.

With the argument `unlocked` they take no lock on the data, as on storage that carries no locks from host to host.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pandas as pd  # noqa: F401 -- pyarrow imports these two when they are first needed; children find them loaded
import pyarrow.dataset  # noqa: F401
from fork_server import serve

from orchestrator.dataset.commit import UnitRecord
from orchestrator.dataset.health import HEALTH, write_health
from orchestrator.dataset.manifest import is_prepared
from orchestrator.dataset.splits import remember_splits
from orchestrator.dataset.units import Unit
from orchestrator.images.given import Given, Seen
from orchestrator.images.picture import PixelWork, prepare_picture
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


class OneByOne:
    """Prepares the units in this process; nothing else is asked of it."""

    def prepare(self, work: PrepareWork, units: Sequence[Unit], parallel: int) -> Iterator[UnitRecord]:  # noqa: ARG002 -- one at a time
        return (prepare_unit(work, unit) for unit in units)

    def run_group(self, *_: Any) -> Any:
        raise AssertionError("nothing is trained here")


class HerePictures:
    """Makes pictures in this process: a child of its own for each of hundreds of children would take minutes, and writes nothing."""

    def see(self, images: Iterable[Given], work: PixelWork) -> Iterator[Seen]:
        for image in images:
            content = image if isinstance(image, bytes) else image.read()
            yield Seen(len(content), hashlib.sha256(content).hexdigest(), prepare_picture(content, work))


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


def main() -> None:
    source, unlocked = Path(sys.argv[1]), "unlocked" in sys.argv[2:]
    stage.picture_process = HerePictures  # type: ignore[assignment]
    serve(lambda place, _: prepare(source, place, unlocked=unlocked))


if __name__ == "__main__":
    main()
