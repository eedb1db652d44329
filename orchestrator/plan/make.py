"""From the job, the images found and the cluster to a plan: pure arithmetic, each decision with its reason."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from orchestrator.errors import ClusterError, PlanError, Problem
from orchestrator.plan.batch import describe_batch, describe_rate, global_batch, micro_batch_rows
from orchestrator.plan.checks import Question, find_problems
from orchestrator.plan.memory import plan_model
from orchestrator.plan.tune import plan_tune
from orchestrator.plan.values import ClusterShape, Decision, EvaluatePlan, ModelFacts, Plan, PreparePlan, TrainPlan
from orchestrator.plan.workers import choose_workers, describe_workers, fitting_workers, usable_workers
from orchestrator.spec.job import ImageSpec, JobSpec
from orchestrator.spec.section import AUTO
from orchestrator.units import format_bytes, format_count

SHARD_PIXEL_BYTES = 64 * 2**20
"""Decoded size at which a shard is cut: long enough to read in one go, short enough for four to fit a worker's memory."""
SHARD_ROWS_MIN, SHARD_ROWS_MAX = 256, 4096


@dataclass(frozen=True)
class DataFacts:
    """What is known of the images when the plan is made."""

    fingerprint: str
    classes: tuple[str, ...]
    images: dict[str, int]
    """Images in each split: as listed before prepare, as readable after it."""


def make_plan(job: JobSpec, facts: DataFacts, shape: ClusterShape, where: str, model: ModelFacts | None = None) -> Plan:
    """Decide everything about a run.

    Args:
        job: What the user asked for.
        facts: The images that were found.
        shape: The cluster that will do the work.
        where: The job file, named in the errors.
        model: The network, where it was counted.

    Raises:
        PlanError: With every reason why the job cannot run on this cluster.
    """
    batch = global_batch(job.train, facts.images.get("train", 0))
    workers, why_workers = choose_workers(job.train, shape, batch)
    problems = find_problems(Question(job, facts.images, shape, workers, batch, facts.classes), where)
    if problems:
        raise PlanError(problems, "change the job file, or add the value to the command line, for example: train.batch=64")
    prepare, why_prepare = plan_prepare(job, shape)
    train, why_train = plan_train(job, facts.images["train"], shape, workers)
    tune, why_tune = plan_tune(job, facts.images, facts.classes, shape, where) if job.tune else (None, ())
    decisions = (
        Decision("images", _describe_images(facts), "what the listing of data.source found"),
        *why_prepare,
        describe_workers(train, why_workers),
        *why_train,
        *plan_model(job, model, train),
        Decision("evaluation", f"batches of {job.evaluate.batch}", "every image of the split once, the last batch is smaller"),
        *why_tune,
    )
    return Plan(
        cluster=shape,
        fingerprint=facts.fingerprint,
        classes=facts.classes,
        images=dict(facts.images),
        prepare=prepare,
        train=train,
        evaluate=EvaluatePlan(job.evaluate.batch),
        decisions=decisions,
        tune=tune,
        model=model,
    )


def shard_rows(image: ImageSpec, asked: int | str) -> int:
    """Images in one shard; does not depend on the cluster, so that every cluster writes the same shards."""
    if isinstance(asked, int):
        return asked
    pixels = image.side * image.side * image.channels
    return max(SHARD_ROWS_MIN, min(SHARD_ROWS_MAX, SHARD_PIXEL_BYTES // pixels))


def plan_prepare(job: JobSpec, shape: ClusterShape) -> tuple[PreparePlan, tuple[Decision, ...]]:
    """How images become shards."""
    image = job.data.image
    rows = shard_rows(image, job.data.shard_rows)
    image_bytes = image.side * image.side * image.channels
    reason = "data.shard_rows in the job file" if job.data.shard_rows != AUTO else f"{format_bytes(rows * image_bytes)} of pixels"
    return PreparePlan(unit_rows=rows, parallel=shape.cpus), (
        Decision("shards", format_count(rows, "image") + " each", reason),
        Decision("decoding", format_count(shape.cpus, "unit") + " at a time", "one for each CPU while nothing trains"),
    )


def plan_train(job: JobSpec, train_rows: int, shape: ClusterShape, workers: int) -> tuple[TrainPlan, tuple[Decision, ...]]:
    """How the worker group trains."""
    batch = global_batch(job.train, train_rows)
    steps, dropped = divmod(train_rows, batch)
    choices = usable_workers(job.train, batch)
    rows = micro_batch_rows(job.train, batch, math.lcm(*choices) if choices else workers)
    worker_cpus, data_cpus = share_cpus(shape, workers)
    plan = TrainPlan(
        workers=workers,
        micro_batches=batch // rows,
        micro_batch_rows=rows,
        steps_per_epoch=steps,
        epochs=job.train.epochs,
        dropped_rows=dropped,
        device="cuda" if shape.gpus else "cpu",
        worker_cpus=worker_cpus,
        threads=max(1, int(worker_cpus)),
        choices=choices,
    )
    device = f"{plan.device}, {format_count(plan.threads, 'thread')} a worker"
    return plan, (
        Decision("device", device, "a GPU was found" if shape.gpus else "no GPU was found"),
        Decision("CPUs", f"{worker_cpus:g} a worker, {data_cpus:g} for Ray Data", "reading must never wait for training to end"),
        *describe_batch(job.train, plan, batch),
        Decision("epoch", format_count(steps, "step"), f"{format_count(dropped, 'image')} left over, other ones each epoch"),
        describe_rate(job.train, batch),
    )


def share_cpus(shape: ClusterShape, workers: int) -> tuple[float, float]:
    """CPUs for each worker and CPUs left for Ray Data, which needs at least one whole CPU to make progress.

    A worker's CPUs are on one node. Without GPUs every node keeps some for Ray Data, wherever the workers end up.
    """
    if shape.gpus:
        per_worker = 1.0 if shape.cpus > workers else (shape.cpus - 1) / workers
        return per_worker, shape.cpus - per_worker * workers
    data_cpus = max(1, shape.node_cpus // 4)
    per_worker = (shape.node_cpus - data_cpus) / math.ceil(workers / shape.nodes)
    whole = float(int(per_worker)) if per_worker >= 1 else int(per_worker * 100) / 100
    return whole, shape.cpus - whole * workers


def refit(plan: TrainPlan, shape: ClusterShape) -> TrainPlan:
    """The same training on a cluster that has changed: the same global steps, by as many workers as can be placed and as the job allows.

    A number that the job names is never exceeded; it falls when there are fewer GPUs.

    Raises:
        ClusterError: What there is could not train.
    """
    cuda = plan.device == "cuda"
    if plan.choices:
        workers = fitting_workers(plan.choices, shape, gpus=cuda)
    elif cuda:
        workers = max((n for n in range(1, min(plan.workers, shape.gpus) + 1) if plan.micro_batches % n == 0), default=0)
    else:
        workers = plan.workers
    if not workers or shape.node_cpus < 2:  # noqa: PLR2004 -- one for the workers, one for Ray Data
        least = plan.choices[0] if plan.choices else 1
        needed = f"{format_count(least, 'GPU')} {'is' if least == 1 else 'are'}" if cuda else "a node of 2 CPUs is"
        what = f"{format_count(shape.cpus, 'CPU')} and {format_count(shape.gpus, 'GPU')} are left of the cluster, too little to go on"
        raise ClusterError(f"{what}; {needed} needed", "start nodes and run the same command again")
    worker_cpus, _ = share_cpus(shape, workers)
    return replace(plan, workers=workers, worker_cpus=worker_cpus, threads=max(1, int(worker_cpus)))


def with_workers(plan: Plan, workers: int) -> Plan:
    """The same plan with another number of processes, for stages whose result does not depend on it.

    Raises:
        PlanError: There are fewer GPUs than workers.
    """
    if plan.cluster.gpus and workers > plan.cluster.gpus:
        what = f"{workers} workers, but the cluster has {plan.cluster.gpus} GPUs"
        raise PlanError((Problem("--workers", what),))
    worker_cpus, _ = share_cpus(plan.cluster, workers)
    group = replace(plan.train, workers=workers, worker_cpus=worker_cpus, threads=max(1, int(worker_cpus)), choices=())
    return replace(plan, train=group)


def as_synthetic(plan: Plan) -> Plan:
    """The same plan, fed from memory."""
    decision = Decision("feed", "synthetic", "one batch over and over, from memory: it measures speed, its accuracy means nothing")
    return replace(plan, synthetic=True, decisions=(*plan.decisions, decision))


def _describe_images(facts: DataFacts) -> str:
    splits = ", ".join(f"{name} {count:,}" for name, count in facts.images.items())
    return f"{format_count(sum(facts.images.values()), 'image')} in {format_count(len(facts.classes), 'class', 'classes')}: {splits}"
