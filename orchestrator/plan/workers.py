"""How many workers train: one number, or with a range as many of its numbers as can share every step alike."""

from __future__ import annotations

import math

from orchestrator.plan.values import ClusterShape, Decision, TrainPlan
from orchestrator.spec.section import AUTO
from orchestrator.spec.train import TrainSpec
from orchestrator.units import format_count

CPU_WORKERS_MAX = 2
"""Workers that `auto` starts on CPUs; beyond two, one worker with more threads does the same work with less memory."""
SHARED_ROWS_MIN = 16
"""Images to which micro-batches are made smaller at most so that one more number of workers can share a step: with eight and fewer the
statistics of batch normalisation are noticeably worse (Wu & He 2018, arXiv:1803.08494, figure 1), and a GPU is not filled."""


def usable_workers(spec: TrainSpec, batch: int) -> tuple[int, ...]:
    """The numbers of the range `train.workers`, in ascending order, that can share the same micro-batches of a step; empty without a range.

    They depend on the job alone, never on the cluster: the images of a step, and of each micro-batch, are the same on any number.
    """
    if not isinstance(spec.workers, tuple):
        return ()
    low, high = spec.workers
    given = isinstance(spec.micro_batch, int)
    unit = batch // spec.micro_batch if isinstance(spec.micro_batch, int) else batch
    found, parts = list[int](), 1
    for number in range(high, low - 1, -1):
        together = math.lcm(parts, number)
        large_enough = together == parts or batch // together >= SHARED_ROWS_MIN
        if unit % together == 0 and (given or not found or large_enough):
            found.insert(0, number)
            parts = together
    return tuple(found) or (high,)  # which the checks refuse, with a batch that works


def choose_workers(spec: TrainSpec, shape: ClusterShape, batch: int) -> tuple[int, str]:
    """How many training processes, and why."""
    if isinstance(spec.workers, tuple):
        choices = usable_workers(spec, batch)
        return fitting_workers(choices, shape) or choices[0], _why_of_range(spec.workers, choices, shape)
    if spec.workers != AUTO:
        return spec.workers, "train.workers in the job file"
    if shape.gpus:
        return shape.gpus, f"one for each of the {format_count(shape.gpus, 'GPU')}"
    workers = shape.nodes if shape.nodes > 1 else min(CPU_WORKERS_MAX, shape.cpus)
    while batch % workers:
        workers -= 1
    if shape.nodes > 1:
        return workers, f"no GPU: at most one for each of the {shape.nodes} nodes, as many as divide train.batch"
    return workers, f"no GPU: {format_count(shape.cpus, 'CPU')} shared by at most {CPU_WORKERS_MAX} workers"


def fitting_workers(choices: tuple[int, ...], shape: ClusterShape, *, gpus: bool | None = None) -> int:
    """The largest of the numbers for which there is a GPU each, or without GPUs a node each; nodes take as many as the least number asks.

    Args:
        choices: In ascending order.
        shape: The cluster.
        gpus: Whether a worker needs a GPU; where left out, if the cluster has any.

    Returns:
        0 where not even the least number fits.
    """
    needed = bool(shape.gpus) if gpus is None else gpus
    room = shape.gpus if needed else max(shape.nodes, choices[0])
    return max((number for number in choices if number <= room), default=0)


def describe_workers(plan: TrainPlan, reason: str) -> Decision:
    """The line of the plan."""
    more = f", up to {plan.choices[-1]}" if plan.choices and plan.choices[-1] > plan.workers else ""
    return Decision("workers", f"{plan.workers}{more}", reason)


def any_of(choices: tuple[int, ...]) -> str:
    """`1, 2 or 4`."""
    *others, last = (str(number) for number in choices)
    return f"{', '.join(others)} or {last}" if others else last


def _why_of_range(limits: tuple[int, int], choices: tuple[int, ...], shape: ClusterShape) -> str:
    each = "one for each GPU as GPUs" if shape.gpus else "one for each node as nodes"
    left_out = sorted({*range(limits[0], limits[1] + 1)} - {*choices})
    uneven = f"; {any_of(tuple(left_out))} could not share the same micro-batches" if left_out else ""
    return f"train.workers: {any_of(choices)}, {each} come and go{uneven}"
