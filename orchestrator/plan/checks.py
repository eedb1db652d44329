"""What would make a plan fail later, found before anything starts: one small named rule each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.errors import Problem
from orchestrator.plan.values import ClusterShape
from orchestrator.spec.job import JobSpec


@dataclass(frozen=True)
class Question:
    """What the rules look at: the job, the images it found, the cluster, and the number of workers."""

    job: JobSpec
    images: dict[str, int]
    """Images in each split."""
    shape: ClusterShape
    workers: int


Rule = Callable[[Question], str | None]


def has_training_images(question: Question) -> str | None:
    if question.images.get("train", 0):
        return None
    return "no images are left for training; lower data.split.validation and data.split.test"


def batch_fits_the_training_images(question: Question) -> str | None:
    train, batch = question.images.get("train", 0), question.job.train.batch
    if not train or batch <= train:
        return None
    largest = 1 << (train.bit_length() - 1)
    return f"train.batch={batch} is more than the {train:,} training images; train.batch={largest} would work"


def batch_divides_among_workers(question: Question) -> str | None:
    batch, workers = question.job.train.batch, question.workers
    if batch % workers == 0:
        return None
    return f"train.batch={batch} does not divide among {workers} workers; train.batch={max(workers, batch - batch % workers)} would work"


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
    every_worker_has_a_gpu,
    ray_data_has_a_cpu,
)


def find_problems(question: Question, where: str) -> tuple[Problem, ...]:
    """Every rule that the plan breaks, in the order of `RULES`."""
    found = (rule(question) for rule in RULES)
    return tuple(Problem(where, what) for what in found if what is not None)
