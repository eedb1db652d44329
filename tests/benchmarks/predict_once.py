"""One evaluation pass of a trained model over prepared images, and the same from memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from train_once import named

from orchestrator.dataset.manifest import Manifest, Shard, read_manifest
from orchestrator.durable import read_json
from orchestrator.launch.cluster import local_shape
from orchestrator.plan.make import DataFacts, make_plan
from orchestrator.plan.values import Plan
from orchestrator.record.folder import Root, RunFolder
from orchestrator.record.journal import Journal, read_events
from orchestrator.spec.job import JobSpec
from orchestrator.spec.load import load_job
from orchestrator.stages.engine import Engine, GroupWork
from orchestrator.stages.evaluate import EvaluateSettings, evaluation_feed, predict_one_worker
from orchestrator.stages.stopping import StopRequest
from orchestrator.training.batch import Batch
from orchestrator.training.distributed import world
from orchestrator.training.pulse import Pulse

SPLIT = "train"
"""The largest; it is shown as every split is evaluated."""


@dataclass(frozen=True)
class Subject:
    """A trained model and its images."""

    job: JobSpec
    plan: Plan
    data: Path
    model: Path


def subject_of(run: RunFolder, root: Root) -> Subject:
    """The model of a run."""
    job = load_job(run.resolved_job).job
    data = root.data / str(read_json(run.plan)["fingerprint"])
    manifest = read_manifest(data)
    facts = DataFacts(manifest.fingerprint, manifest.classes, {name: rows for name, rows in manifest.splits.items() if rows})
    return Subject(job, make_plan(job, facts, local_shape(), run.name), data, run.model)


def images_per_s(subject: Subject, engine: Engine, *, repeated: bool, folder: Path) -> float:
    """From asking for the first batch to the last report of a pass.

    Args:
        subject: What predicts what.
        engine: Runs the worker group.
        repeated: Each worker takes its first batch over and over.
        folder: Holds what the pass leaves, until its end.

    Raises:
        ValueError: The pass was over too soon.
    """
    with TemporaryDirectory(prefix="pass-", dir=folder) as name:
        run = RunFolder(Path(name).resolve())
        settings = EvaluateSettings(subject.model, run.path / "parts", run.events, subject.plan.train.device, subject.plan.images[SPLIT])
        worker: Callable[[Any, Iterator[Batch], Pulse], Any] = predict_repeated if repeated else predict_one_worker
        manifest = read_manifest(subject.data)
        if repeated:
            manifest = beginning_of(manifest, subject.plan.train.workers * subject.plan.evaluate.batch_rows)
        work = GroupWork(
            name="evaluate",
            plan=subject.plan.train,
            cluster=subject.plan.cluster,
            run_one_worker=worker,
            settings=settings,
            make_feed=partial(evaluation_feed, subject.job, subject.plan, manifest, subject.data, SPLIT),
            storage=run.attempts,
            saves_on_stop=False,
        )
        engine.run_group(work, Journal(run.events, "evaluate-driver", "evaluate"), StopRequest(run.stop_request), 1)
        reports = named(read_events(run.events), "BatchesPredicted")
    if not reports:
        raise ValueError("the pass is too short: nothing was reported; let there be more images")
    return float(reports[-1]["images_per_s"])


def beginning_of(manifest: Manifest, rows: int) -> Manifest:
    """The first shards, of so many images at least: nothing more is read beside what repeats them."""
    kept: list[Shard] = []
    for shard in manifest.shards:
        if shard.split == SPLIT and sum(one.rows for one in kept) < rows:
            kept.append(shard)
    return replace(manifest, shards=tuple(kept), splits={SPLIT: sum(shard.rows for shard in kept)})


def predict_repeated(settings: EvaluateSettings, batches: Iterator[Batch], pulse: Pulse) -> None:
    """Runs in every worker of the group: as many batches as there would be, from memory."""
    first = next(batches)
    for _ in batches:
        pass  # so that nobody reads any more
    predict_one_worker(settings, repeat(first, -(-settings.rows // (len(first.labels) * world()[1]))), pulse)
