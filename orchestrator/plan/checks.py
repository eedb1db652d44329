"""What would make a plan fail later, found before anything starts: one small named rule each."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.errors import Problem
from orchestrator.plan.values import ClusterShape
from orchestrator.plan.workers import usable_workers
from orchestrator.spec.job import JobSpec


@dataclass(frozen=True)
class Question:
    """What the rules look at: the job, the images it found, the cluster, and what was decided of workers and batch."""

    job: JobSpec
    images: dict[str, int]
    """Images in each split."""
    shape: ClusterShape
    workers: int
    batch: int
    """Images in one optimiser step."""
    classes: tuple[str, ...]


Rule = Callable[[Question], str | None]
CLASSES_SHOWN = 5


def has_training_images(question: Question) -> str | None:
    if question.images.get("train", 0):
        return None
    return "no images are left for training; lower data.split.validation and data.split.test"


def batch_fits_the_training_images(question: Question) -> str | None:
    train, batch = question.images.get("train", 0), question.batch
    if not train or batch <= train:
        return None
    largest = 1 << (train.bit_length() - 1)
    return f"train.batch={batch} is more than the {train:,} training images; train.batch={largest} would work"


def batch_divides_among_workers(question: Question) -> str | None:
    batch, workers = question.batch, question.workers
    if batch % workers == 0:
        return None
    return f"train.batch={batch} does not divide among {workers} workers; train.batch={max(workers, batch - batch % workers)} would work"


def micro_batches_make_up_the_batch(question: Question) -> str | None:
    rows, batch, workers = question.job.train.micro_batch, question.batch, question.workers
    if not isinstance(rows, int) or batch % workers or batch % (rows * workers) == 0:
        return None
    share = batch // workers
    fits = max(size for size in range(1, min(rows, share) + 1) if share % size == 0)
    whose = f"the {share} images of a step" if workers == 1 else f"the {share} images that each of {workers} workers takes of a step"
    return f"train.micro_batch={rows} does not divide {whose}; train.micro_batch={fits} would work"


def class_weights_count_classes(question: Question) -> str | None:
    weights = question.job.train.class_weights
    if isinstance(weights, str):
        return None
    if question.classes and not any(weights.get(name, 1.0) for name in question.classes):
        return "train.class_weights gives every class the weight 0, so nothing is learned; give the classes that count a positive one"
    unknown = sorted(set(weights) - set(question.classes))
    if not unknown:
        return None
    known = ", ".join(question.classes[:CLASSES_SHOWN]) + (", ..." if len(question.classes) > CLASSES_SHOWN else "")
    return f"train.class_weights names {', '.join(unknown[:CLASSES_SHOWN])}, but the classes are {known}"


def mixed_images_have_partners(question: Question) -> str | None:
    train, rows = question.job.train, question.job.train.micro_batch
    parts = math.lcm(question.workers, *usable_workers(train, question.batch))
    if not train.mixes or (rows != 1 and question.batch > parts):
        return None
    return "mixup and cutmix mix the images of one micro-batch, and there is one image in each; raise train.batch or train.micro_batch"


def every_worker_has_a_gpu(question: Question) -> str | None:
    gpus, workers = question.shape.gpus, question.workers
    if gpus == 0 or workers <= gpus:
        return None
    return f"train.workers={workers}, but the cluster has {gpus} GPUs; train.workers={gpus} would work"


def ray_data_has_a_cpu(question: Question) -> str | None:
    shape = question.shape
    if (shape.cpus if shape.gpus else shape.node_cpus) >= 2:  # noqa: PLR2004 -- one for the workers, one for Ray Data
        return None
    what = f"the smallest node has {shape.node_cpus} CPU" if shape.nodes > 1 else f"the cluster has {shape.cpus} CPU"
    return f"{what}; reading and training need 2: one for Ray Data, one for the workers"


RULES: tuple[Rule, ...] = (
    has_training_images,
    batch_fits_the_training_images,
    batch_divides_among_workers,
    micro_batches_make_up_the_batch,
    mixed_images_have_partners,
    class_weights_count_classes,
    every_worker_has_a_gpu,
    ray_data_has_a_cpu,
)


def find_problems(question: Question, where: str) -> tuple[Problem, ...]:
    """Every rule that the plan breaks, in the order of `RULES`."""
    found = (rule(question) for rule in RULES)
    return tuple(Problem(where, what) for what in found if what is not None)
