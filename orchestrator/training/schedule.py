"""The learning rate of every step: a pure function of the step, so that no state of it has to be kept."""

from __future__ import annotations

import math
from collections.abc import Callable

from orchestrator.spec.train import TrainSpec

FIRST_OF_PEAK, LAST_OF_FIRST = 1 / 25, 1e-4
"""Where one_cycle begins, as a share of its peak, and where it ends, as a share of that: fast.ai's values, which are torch's as well."""


def learning_rate(step: int, total_steps: int, spec: TrainSpec) -> float:
    """The rate of a global step, counted from 0: a straight rise over the warm-up, then the course that the job names."""
    warmup = int(spec.warmup * total_steps)
    if spec.schedule == "one_cycle":
        return spec.lr * _one_cycle(step, warmup, total_steps)
    if step < warmup:
        return spec.lr * (step + 1) / warmup
    return spec.lr * COURSES[spec.schedule](step, warmup, total_steps, spec)


def _cosine(step: int, warmup: int, total_steps: int, spec: TrainSpec) -> float:  # noqa: ARG001 -- courses are called alike
    """Loshchilov and Hutter 2016 (arXiv:1608.03983), without restarts."""
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total_steps - warmup)))


def _step(step: int, warmup: int, total_steps: int, spec: TrainSpec) -> float:  # noqa: ARG001
    return float(spec.drop_factor ** sum(step >= int(share * total_steps) for share in spec.drops))


def _warmup_stable_decay(step: int, warmup: int, total_steps: int, spec: TrainSpec) -> float:  # noqa: ARG001
    """Straight cooldown, as in Hägele et al. 2024 (arXiv:2405.18392): the last step still learns."""
    cooldown = int(spec.cooldown * total_steps)
    return min(1.0, (total_steps - step) / cooldown) if cooldown else 1.0


def _constant(step: int, warmup: int, total_steps: int, spec: TrainSpec) -> float:  # noqa: ARG001
    return 1.0


def _one_cycle(step: int, warmup: int, total_steps: int) -> float:
    """Smith and Topin 2017 (arXiv:1708.07120) with cosines, as `torch.optim.lr_scheduler.OneCycleLR`; the momentum stays."""
    peak_at = warmup - 1
    if step <= peak_at:
        return _along_cosine(FIRST_OF_PEAK, 1.0, step / peak_at if peak_at else 1.0)
    return _along_cosine(1.0, FIRST_OF_PEAK * LAST_OF_FIRST, (step - peak_at) / (total_steps - 1 - peak_at))


def _along_cosine(begin: float, end: float, share: float) -> float:
    return end + (begin - end) / 2 * (1 + math.cos(math.pi * share))


COURSES: dict[str, Callable[[int, int, int, TrainSpec], float]] = {
    "cosine": _cosine,
    "step": _step,
    "warmup_stable_decay": _warmup_stable_decay,
    "constant": _constant,
}
"""Share of the peak at a step that is not before the end of the warm-up."""
