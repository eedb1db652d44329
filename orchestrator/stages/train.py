"""train: a worker group turns prepared shards into checkpoints and a model."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from orchestrator.dataset.manifest import Manifest
from orchestrator.dataset.shards import SHARDS, read_labels
from orchestrator.errors import Interrupted, TrainingError
from orchestrator.plan.batch import lighter_evaluation, lighter_micro_batch
from orchestrator.plan.values import Plan
from orchestrator.record.folder import RunFolder
from orchestrator.record.journal import Journal
from orchestrator.spec.job import JobSpec
from orchestrator.stages.augmentation import augmentation_step, view_of
from orchestrator.stages.engine import Elastic, Engine, GroupWork
from orchestrator.stages.feed import Feed, FeedStart
from orchestrator.stages.network import read_weights
from orchestrator.stages.probe import fit_micro_batch
from orchestrator.stages.stopping import StopRequest, WorkerControl
from orchestrator.training.batch import Batch
from orchestrator.training.checkpoint import resume_position
from orchestrator.training.distributed import world
from orchestrator.training.loop import train_worker
from orchestrator.training.loss import weigh_classes
from orchestrator.training.pulse import Pulse
from orchestrator.training.work import TrainResult, TrainWork, Wish

ATTEMPTS = 4
"""Starts of a worker group before a run that loses its workers gives up."""


@dataclass(frozen=True)
class TrainSettings:
    """What travels to every worker."""

    work: TrainWork
    events: Path
    stop_file: Path
    regroup_file: Path


def train_model(
    job: JobSpec, plan: Plan, manifest: Manifest, data: Path, folder: RunFolder, engine: Engine, journal: Journal, stop: StopRequest
) -> None:
    """Train to the end, from the newest checkpoint that verifies.

    Raises:
        Interrupted: The user asked to stop; a checkpoint of the last step is on disk.
        TrainingError: The loss is not finite, the ranks diverged, or the worker group was lost too often.
    """
    work = TrainWork(
        job=job,
        plan=plan.train,
        in_channels=manifest.image.channels,
        mean=manifest.pixels.mean,
        std=manifest.pixels.std,
        checkpoints=folder.checkpoints,
        model_folder=folder.model,
        classes=manifest.classes,
        validation_rows=manifest.splits.get("validation", 0),
        class_weights=weigh_classes(job.train.class_weights, manifest.classes, class_rows(job, manifest, data)),
    )
    plan = fit_micro_batch(plan, work, folder, engine, journal)
    work = replace(work, plan=plan.train)
    train = job.train
    elastic = Elastic(folder.regroup_request, train.grow_after_s, train.wait_for_nodes_s) if plan.train.choices else None
    group = GroupWork(
        name="train",
        plan=plan.train,
        cluster=plan.cluster,
        run_one_worker=train_one_worker,
        settings=TrainSettings(work, folder.events, folder.stop_request, folder.regroup_request),
        make_feed=partial(training_feed, job, plan, manifest, data, folder.checkpoints),
        storage=folder.attempts,
        saves_on_stop=True,
        repeats=plan.synthetic,
        elastic=elastic,
        hang_s=job.train.hang_s,
        when_memory_ends=lighter_micro_batch(job.train, plan.train),
        when_validation_ends_memory=lighter_evaluation(job.evaluate.batch),
    )
    result: TrainResult = engine.run_group(group, journal, stop, ATTEMPTS)
    if result.ended_by is not Wish.GO_ON:
        raise Interrupted("stopped; a checkpoint of the last step is saved", f"orchestrator resume {folder.name}")
    if plan.synthetic:
        forget_model(folder)


def forget_model(folder: RunFolder) -> None:
    """Leave nothing that could be taken for a trained model."""
    for place in (folder.model, folder.checkpoints):
        if place.exists():
            shutil.rmtree(place)


def class_rows(job: JobSpec, manifest: Manifest, data: Path) -> tuple[int, ...]:
    """Training images of each class; nothing is read where nothing depends on it."""
    counts = np.zeros(len(manifest.classes), np.int64)
    for shard in manifest.shards if job.train.class_weights == "balanced" else ():
        if shard.split == "train":
            counts += np.bincount(read_labels(data / SHARDS / shard.name), minlength=len(counts))
    return tuple(counts.tolist())


def training_feed(job: JobSpec, plan: Plan, manifest: Manifest, data: Path, checkpoints: Path, workers: int) -> Feed:
    """The feed from where the newest checkpoint stands."""
    position = resume_position(checkpoints)
    return Feed(
        data=data,
        manifest=manifest,
        view=view_of(manifest.image, job.data.image.size),
        workers=workers,
        evaluation_rows=plan.evaluate.batch_rows,
        seed=job.train.seed,
        window=job.train.shuffle_window,
        steps=tuple(augmentation_step(step) for step in job.augment),
        train=plan.train,
        split="validation",
        start=FeedStart(position.epoch, position.step),
    )


def train_one_worker(settings: TrainSettings, batches: Iterator[Batch], pulse: Pulse) -> TrainResult:
    """Runs in every worker of the group."""
    require_device(settings.work.plan.device)
    rank, _ = world()
    journal = Journal(settings.events, f"train-{rank}", "train")
    weights = settings.work.job.model.weights
    start = None if weights is None else partial(read_weights, weights)
    control = WorkerControl(settings.stop_file, settings.regroup_file, rank, journal.record)
    return train_worker(settings.work, batches, control, journal.record, start, pulse)


def require_device(device: str) -> None:
    """Raises:
    TrainingError: The plan counts on a GPU that torch cannot use.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise TrainingError(
            "the plan counts on a GPU, but torch cannot use one",
            "orchestrator doctor names the cause; CUDA_VISIBLE_DEVICES= trains on the CPU",
        )
