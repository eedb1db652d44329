"""What a training worker is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Protocol

from orchestrator.plan.values import TrainPlan
from orchestrator.spec.job import JobSpec

Record = Callable[..., None]
"""`record("CheckpointSaved", step=10)` writes an event."""


class Wish(IntEnum):
    """What is wanted of the workers after a step; of several wishes the largest counts. All but `GO_ON` end it with a checkpoint."""

    GO_ON = 0
    REGROUP = 1
    """The group is started again with another number of workers."""
    LEAVE = 2
    """A worker's machine is taken away: the group is started again elsewhere."""
    STOP = 3
    """The user wants to stop."""


class Control(Protocol):
    """Asked by every worker after every step."""

    def wish(self) -> Wish:
        """What this worker knows to be wanted."""
        ...


@dataclass(frozen=True)
class TrainWork:
    """Everything that decides what a worker does, besides the images."""

    job: JobSpec
    plan: TrainPlan
    classes: tuple[str, ...]
    in_channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    checkpoints: Path
    model_folder: Path
    validation_rows: int
    """Images in the validation split."""
    class_weights: tuple[float, ...] | None = None
    """How much an image of each class counts in the loss; all alike when absent."""

    @property
    def sizes(self) -> dict[str, int]:
        """What a network must fit."""
        return {"num_classes": len(self.classes), "in_channels": self.in_channels, "image_size": self.job.data.image.size}

    @property
    def preprocess(self) -> dict[str, Any]:
        """What preprocess.json holds."""
        image = self.job.data.image
        return {"size": image.size, "channels": self.in_channels, "fit": image.fit, "mean": list(self.mean), "std": list(self.std)}


@dataclass(frozen=True)
class TrainResult:
    """How training ended."""

    ended_by: Wish
    """Why it ended before the last epoch; `GO_ON` where it did not."""
    best_epoch: int
    best_accuracy: float | None
    """On the validation images; absent when there are none."""
