"""The learning rate of every step, against values worked out by hand, and torch's own scheduler."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from orchestrator.spec.train import TrainSpec
from orchestrator.training.schedule import learning_rate

STEPS = 40


def rates(**train: Any) -> list[float]:
    spec = TrainSpec(lr=0.4, **train)
    return [learning_rate(step, STEPS, spec) for step in range(STEPS)]


RISE = [0.1, 0.2, 0.3, 0.4]
"""A tenth of forty steps."""


def test_cosine_is_half_a_cosine_to_nothing() -> None:
    """After the warm-up lr (1 + cos(pi t)) / 2, where t runs from 0 at the peak to 1 at the step after the last."""
    expected = [0.2 * (1 + math.cos(math.pi * step / 36)) for step in range(36)]
    assert rates() == pytest.approx(RISE + expected)
    assert rates(warmup=0.0)[0] == 0.4


def test_step_drops_where_it_is_told() -> None:
    """At 50 % and at 75 % of all steps, warm-up included, to a tenth each time; other places and factors by name."""
    assert rates(schedule="step") == pytest.approx(RISE + [0.4] * 16 + [0.04] * 10 + [0.004] * 10)
    assert rates(schedule="step", warmup=0.0, drops=(0.25,), drop_factor=0.5) == pytest.approx([0.4] * 10 + [0.2] * 30)


def test_warmup_stable_decay_falls_straight_in_the_end() -> None:
    """The last fifth falls in equal parts from the peak, and the last step still learns."""
    falling = [0.4 * (8 - step) / 8 for step in range(8)]
    assert rates(schedule="warmup_stable_decay") == pytest.approx(RISE + [0.4] * 28 + falling)
    assert rates(schedule="warmup_stable_decay", cooldown=0.0) == pytest.approx(RISE + [0.4] * 36)


def test_constant_stays() -> None:
    """After the warm-up nothing changes."""
    assert rates(schedule="constant") == pytest.approx(RISE + [0.4] * 36)


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.3, 0.5])
def test_one_cycle_is_torchs(warmup: float) -> None:
    """The same rate at every step as `torch.optim.lr_scheduler.OneCycleLR`."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.4, total_steps=STEPS, pct_start=warmup, cycle_momentum=False)
    expected = []
    for _ in range(STEPS):
        expected.append(scheduler.get_last_lr()[0])
        optimizer.step()
        if len(expected) < STEPS:
            scheduler.step()
    assert rates(schedule="one_cycle", warmup=warmup) == pytest.approx(expected)


@pytest.mark.parametrize("schedule", ["cosine", "step", "one_cycle", "warmup_stable_decay", "constant"])
@pytest.mark.parametrize("steps", [1, 2, 3, 7])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.3, 0.5, 0.8])
def test_short_trainings_learn_too(schedule: str, steps: int, warmup: float) -> None:
    """However few steps there are, every rate is above 0 and none above the peak."""
    spec = TrainSpec(lr=0.4, schedule=schedule, warmup=warmup)
    assert all(0 < learning_rate(step, steps, spec) <= 0.4 + 1e-12 for step in range(steps))
