"""A small job without images on disk: batches made by hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from same_state import state_differences

from orchestrator.plan.values import TrainPlan
from orchestrator.spec.job import DataSpec, EvaluateSpec, ImageSpec, JobSpec
from orchestrator.spec.model import ModelSpec
from orchestrator.spec.train import TrainSpec
from orchestrator.training.batch import Batch, Phase
from orchestrator.training.work import TrainWork, Wish

STEPS, ROWS, EPOCHS, VALIDATION = 4, 8, 3, 6


def make_batch(phase: Phase, epoch: int, step: int, rows: int, seed: int, index: int = 0) -> Batch:
    """Images whose brightness gives the label away."""
    rng = np.random.default_rng((seed, epoch, step))
    labels = rng.integers(0, 2, rows)
    images = (rng.integers(0, 120, (rows, 8, 8, 1)) + labels[:, None, None, None] * 100).astype(np.uint8)
    images.setflags(write=False)
    return Batch(index, phase, epoch, step, images, labels, rng.integers(0, 256, (rows, 16), dtype=np.uint8))


def make_feed(epoch: int = 0, step: int = 0, *, micro_batches: int = 1, rank: int = 0, workers: int = 1) -> Iterator[Batch]:
    """The feed of one worker from a step on: the images of a step do not depend on how it is cut."""
    for now in range(epoch, EPOCHS):
        for at in range(step if now == epoch else 0, STEPS):
            whole = make_batch(Phase.TRAIN, now, at, ROWS, 1)
            size = ROWS // micro_batches
            for part in range(rank, micro_batches, workers):
                cut = slice(part * size, (part + 1) * size)
                yield Batch(part, Phase.TRAIN, now, at, whole.images[cut], whole.labels[cut], whole.ids[cut])
        validation = make_batch(Phase.VALIDATION, 0, 0, VALIDATION, 2)
        for number in range(workers):
            cut = slice(0, VALIDATION) if number == 0 else slice(0, 0)
            if number == rank:
                yield Batch(number, Phase.VALIDATION, now, 0, validation.images[cut], validation.labels[cut], validation.ids[cut])


def make_work(
    place: Path, *, workers: int = 1, micro_batches: int | None = None, norm: str = "batch", train: dict[str, Any] | None = None
) -> TrainWork:
    """One micro-batch for each worker, and single precision on every CPU, where nothing else is said."""
    parts = micro_batches or workers
    job = JobSpec(
        name="small",
        data=DataSpec(source="/images", image=ImageSpec(size=8, channels=1)),
        model=ModelSpec(name="resnet8", norm=norm),
        train=TrainSpec(**({"epochs": EPOCHS, "batch": ROWS, "lr": 0.05, "precision": "fp32"} | (train or {}))),
        evaluate=EvaluateSpec(batch=VALIDATION),
    )
    plan = TrainPlan(workers, parts, ROWS // parts, STEPS, EPOCHS, 0, "cpu", 1.0, 1)
    return TrainWork(job, plan, ("dark", "light"), 1, (0.4,), (0.3,), place / "checkpoints", place / "model", VALIDATION)


@dataclass
class StopAfter:
    """Wants training to end when it is asked for the n-th time: it is asked after every step and before the validation of every epoch."""

    steps: int
    then: Wish = Wish.STOP
    asked: int = 0

    def wish(self) -> Wish:
        self.asked += 1
        return self.then if self.asked >= self.steps else Wish.GO_ON


NEVER = 10**9
QUESTIONS = (STEPS + 1) * EPOCHS
"""That a whole training asks `StopAfter`."""


def steps_until(question: int) -> int:
    """Steps that are done when it is asked."""
    return question // (STEPS + 1) * STEPS + question % (STEPS + 1)


@dataclass
class Events:
    """Keeps what was recorded."""

    found: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, event: str, **fields: Any) -> None:
        self.found.append({"event": event, **fields})

    def named(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.found if event["event"] == name]


def assert_same_state(first: Any, second: Any) -> None:
    """Two states of a checkpoint agree in every bit."""
    assert list(state_differences(first, second)) == []


@pytest.fixture
def events() -> Events:
    return Events()
