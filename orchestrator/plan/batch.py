"""How many images a step takes, in which parts, and what the learning rate means for one image."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.plan.memory import plan_model
from orchestrator.plan.values import Decision, Plan, TrainPlan
from orchestrator.plan.workers import any_of
from orchestrator.spec.job import JobSpec
from orchestrator.spec.section import AUTO
from orchestrator.spec.train import TrainSpec
from orchestrator.units import format_count

AUTO_BATCH = 256
AUTO_STEPS_MIN = 16
"""Steps of an epoch below which `batch: auto` takes fewer images."""
TOO_LARGE = "lower data.image.size, or take a smaller model"
"""What is left to do when one image does not fit the memory."""
USUAL_RATES = {"sgd": (2e-4, 2e-3), "adamw": (5e-7, 1e-5)}
"""Learning rate for one image of the batch, from which results are seldom far apart: 0.1 for 256 with SGD (Goyal et al. 2017,
arXiv:1706.02677), 1e-3 for 1,024 with AdamW (Touvron et al. 2020, arXiv:2012.12877), and what is near."""


def global_batch(spec: TrainSpec, train_rows: int) -> int:
    """Images in one optimiser step; does not depend on the cluster."""
    if spec.batch != AUTO:
        return spec.batch
    return min(AUTO_BATCH, 1 << (max(1, train_rows // AUTO_STEPS_MIN).bit_length() - 1))


def is_probed(spec: TrainSpec) -> bool:
    """Whether memory decides about the micro-batch."""
    return spec.micro_batch == AUTO or (spec.micro_batch is None and spec.batch == AUTO)


def micro_batch_rows(spec: TrainSpec, batch: int, parts: int) -> int:
    """Images in one micro-batch, as long as nobody has looked at the memory.

    Args:
        spec: What the job asks for.
        batch: Images in a step.
        parts: Equal parts in which the workers take it.
    """
    return spec.micro_batch if isinstance(spec.micro_batch, int) else batch // parts


def describe_batch(spec: TrainSpec, plan: TrainPlan, batch: int) -> tuple[Decision, Decision]:
    """The lines about the step and about its parts."""
    few = f"{AUTO_BATCH}, or fewer for {AUTO_STEPS_MIN} steps an epoch"
    why = "train.batch, in equal parts" if spec.batch != AUTO else f"train.batch=auto: {few}"
    share = batch // plan.workers
    step = Decision("step", f"{format_count(batch, 'image')} = {plan.workers} x {share}", why)
    if is_probed(spec):
        return step, Decision("micro-batch", f"at most {batch // plan.parts}", "what fits the memory, found by trying when training starts")
    shared = "each worker's part of the step in one go" if not plan.choices else f"the same for {any_of(plan.choices)} workers"
    return step, _micro_batch_decision(plan, "train.micro_batch" if spec.micro_batch else shared)


def with_micro_batch(job: JobSpec, plan: Plan, rows: int, reason: str) -> Plan:
    """The same steps in other parts: the images of each step stay what they are."""
    batch = plan.train.micro_batches * plan.train.micro_batch_rows
    train = replace(plan.train, micro_batches=batch // rows, micro_batch_rows=rows)
    made = {line.what: line for line in (_micro_batch_decision(train, reason), *plan_model(job, plan.model, train))}
    return replace(plan, train=train, decisions=tuple(made.get(line.what, line) for line in plan.decisions))


def micro_batch_choices(spec: TrainSpec, plan: TrainPlan) -> tuple[int, ...]:
    """The sizes, in ascending order, in which any number of workers can share a step; images that are mixed need a partner."""
    share = plan.micro_batches * plan.micro_batch_rows // plan.parts
    return tuple(rows for rows in range(2 if spec.mixes else 1, share + 1) if share % rows == 0)


def lighter_micro_batch(spec: TrainSpec, plan: TrainPlan) -> str:
    """What takes about half the memory and leaves the steps as they are, or what else there is to do."""
    fewer = [rows for rows in micro_batch_choices(spec, plan) if 2 * rows <= plan.micro_batch_rows]
    if not fewer:
        return TOO_LARGE
    batch = plan.micro_batches * plan.micro_batch_rows
    return f"train.micro_batch={fewer[-1]} instead of {plan.micro_batch_rows} takes less at a time and keeps the batch of {batch}"


def lighter_evaluation(rows: int) -> str:
    """What validation and evaluation take less memory with."""
    return f"evaluate.batch={rows // 2} instead of {rows} takes fewer images at a time" if rows > 1 else TOO_LARGE


def describe_rate(spec: TrainSpec, batch: int) -> Decision:
    """What the learning rate is for one image, which is what stays alike from batch to batch, and whether that is usual."""
    rate, (low, high) = spec.lr / batch, USUAL_RATES[spec.optimizer]
    seen = "less than usual" if rate < low else "more than usual" if rate > high else "usual"
    value = f"{spec.lr:g} at its peak, {rate:.2g} an image"
    why = f"train.lr, for the global batch on any number of workers; {seen}: {low:g} to {high:g} an image"
    return Decision("learning rate", value, why)


def _micro_batch_decision(plan: TrainPlan, reason: str) -> Decision:
    passes = plan.micro_batches // plan.workers
    value = format_count(plan.micro_batch_rows, "image") + ("" if passes == 1 else f", {passes} for each worker in a step")
    return Decision("micro-batch", value, reason)
