"""One prepare of ours, as a run does it, into a folder of its own."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from orchestrator.dataset.manifest import Manifest
from orchestrator.dataset.splits import remember_splits
from orchestrator.launch.images import find_images
from orchestrator.plan.make import plan_prepare
from orchestrator.plan.values import ClusterShape
from orchestrator.record.folder import Root
from orchestrator.record.journal import Journal, read_events
from orchestrator.spec.job import DataSpec, ImageSpec, JobSpec
from orchestrator.stages.engine import Engine
from orchestrator.stages.prepare import PrepareRequest, prepare_data
from orchestrator.stages.stopping import StopRequest

SIZE = 224


@dataclass(frozen=True)
class Workplace:
    """A Ray that runs, and where its results go."""

    engine: Engine
    shape: ClusterShape
    folder: Path


@dataclass(frozen=True)
class Prepared:
    """What came of it."""

    images: int
    seconds: float
    """From the start of the listing to the committed manifest."""
    first_unit_s: float
    """From the same start until the first unit was on disk."""


def job_of(source: Path, store: str) -> JobSpec:
    image = ImageSpec.model_validate({"size": SIZE, "store": store})
    return JobSpec(name="bench", data=DataSpec(source=str(source.resolve()), image=image))


def prepare_once(job: JobSpec, place: Workplace) -> Prepared:
    """The prepared data are removed again."""
    with TemporaryDirectory(prefix="root-", dir=place.folder) as name:
        root = Root(Path(name).resolve())
        run = root.run(job.name)
        stop = StopRequest(run.stop_request)
        began, started = time.time(), time.perf_counter()
        manifest = list_and_prepare(job, place, root, Journal(run.events, "prepare-driver", "prepare"), stop)
        seconds = time.perf_counter() - started
        first = next(float(event["time"]) for event in read_events(run.events) if event["event"] == "UnitPrepared")
    return Prepared(sum(manifest.splits.values()), seconds, first - began)


def list_and_prepare(job: JobSpec, place: Workplace, root: Root, journal: Journal, stop: StopRequest) -> Manifest:
    """What `do_stages` does, from the listing to the manifest."""
    found = find_images(job.data, root.data)
    remember_splits(found.splits, found.table, found.before)
    plan, _ = plan_prepare(job, place.shape)
    request = PrepareRequest(job.data, root.data / found.fingerprint, found.fingerprint, found.recipe, found.listing, found.table, plan)
    return prepare_data(request, place.engine, journal, stop)
