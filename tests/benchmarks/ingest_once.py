"""One ingest of ours: a worker group that consumes its feed as in training and computes nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from consume import Consumed, Course, consume
from numpy.typing import NDArray
from prepare_once import SIZE, Workplace, list_and_prepare

from orchestrator.dataset.manifest import Manifest
from orchestrator.plan.make import DataFacts, make_plan
from orchestrator.plan.values import ClusterShape, Plan
from orchestrator.record.folder import Root
from orchestrator.record.journal import Journal
from orchestrator.spec.job import JobSpec
from orchestrator.stages.engine import GroupWork
from orchestrator.stages.stopping import StopRequest
from orchestrator.stages.train import training_feed
from orchestrator.training.batch import Batch
from orchestrator.training.pulse import Pulse


@dataclass(frozen=True)
class Stored:
    """Prepared data, and the job that they were prepared for."""

    job: JobSpec
    plan: Plan
    manifest: Manifest
    data: Path


@dataclass(frozen=True)
class ConsumerSettings:
    """What travels to the worker."""

    course: Course
    root: int
    """The process that started Ray."""


@dataclass(frozen=True)
class Ingested:
    """What it took."""

    consumed: Consumed
    object_bytes: int
    """That were written to the object store, over all epochs."""
    spilled_bytes: int
    images: int
    """Over all epochs."""


def job_of(source: Path, store: str, batch: int, epochs: int = 1) -> JobSpec:
    """All images are for training, by one worker, with the transforms that everybody applies."""
    return JobSpec.model_validate(
        {
            "name": "bench",
            "data": {
                "source": str(source.resolve()),
                "split": {"validation": 0.0, "test": 0.0},
                "image": {"size": SIZE, "store": store},
            },
            "augment": ["random_resized_crop", "horizontal_flip"],
            "train": {"batch": batch, "workers": 1, "epochs": epochs},
        }
    )


@contextmanager
def stored(job: JobSpec, place: Workplace) -> Iterator[Stored]:
    """Prepared for as long as the context lasts."""
    with TemporaryDirectory(prefix="root-", dir=place.folder) as name:
        root = Root(Path(name).resolve())
        run = root.run(job.name)
        manifest = list_and_prepare(job, place, root, Journal(run.events, "prepare-driver", "prepare"), StopRequest(run.stop_request))
        facts = DataFacts(manifest.fingerprint, manifest.classes, manifest.splits)
        yield Stored(job, make_plan(job, facts, place.shape, job.name), manifest, root.data / manifest.fingerprint)


def uncropped(prepared: Stored) -> Stored:
    """The same data for a job that trains on the middle of each picture, flipped or not: of what is stored, the same for every store."""
    job = prepared.job
    flips = tuple(step for step in job.augment if step.transform != "random_resized_crop")
    return replace(prepared, job=job.model_copy(update={"augment": flips}))


def ingest_once(prepared: Stored, place: Workplace, epochs: int, after: int) -> Ingested:
    """The course of a run from its first batch on; `epochs` are timed, `after` follow. Of the worker's CPUs, it uses next to nothing."""
    course = Course(prepared.plan.train.steps_per_epoch, epochs, after)
    job = prepared.job.model_copy(update={"train": prepared.job.train.model_copy(update={"epochs": course.all_epochs})})
    plan = replace(prepared.plan, train=replace(prepared.plan.train, epochs=course.all_epochs, worker_cpus=1.0))
    before = store_bytes()
    with TemporaryDirectory(prefix="run-", dir=place.folder) as name:
        run = Root(Path(name).resolve()).run(job.name)
        work = GroupWork(
            name="ingest",
            plan=plan.train,
            cluster=plan.cluster,
            run_one_worker=consume_as_worker,
            settings=ConsumerSettings(course, os.getpid()),
            make_feed=partial(training_feed, job, plan, prepared.manifest, prepared.data, run.checkpoints),
            storage=run.attempts,
            saves_on_stop=False,
        )
        journal = Journal(run.events, "ingest-driver", "train")
        consumed: Consumed = place.engine.run_group(work, journal, StopRequest(run.stop_request), 1)
    after = store_bytes()
    images = course.epoch_batches * plan.train.micro_batch_rows * course.all_epochs
    return Ingested(consumed, after[0] - before[0], after[1] - before[1], images)


def consume_as_worker(settings: ConsumerSettings, batches: Iterator[Batch], pulse: Pulse) -> Consumed:
    """Runs in the worker of the group."""
    return consume(_noted_images(batches, pulse), settings.course, settings.root)


def _noted_images(batches: Iterator[Batch], pulse: Pulse) -> Iterator[NDArray[np.uint8]]:
    for batch in batches:
        pulse.note("consume")
        yield batch.images


def store_bytes() -> tuple[int, int]:
    """What was ever written to the object stores of the cluster, and what was ever spilled from them."""
    import ray
    from ray._private.internal_api import get_memory_info_reply, get_state_from_address

    stats = get_memory_info_reply(get_state_from_address(ray.get_runtime_context().gcs_address)).store_stats
    return stats.cumulative_created_bytes, stats.spilled_bytes_total


def shape_beside(cores: int) -> ClusterShape:
    """The worker has a logical CPU of its own, as on a machine with a GPU: all cores are left to Ray Data."""
    return ClusterShape(cpus=cores + 1, gpus=0)
