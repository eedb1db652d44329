"""Decisions as values."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class ClusterShape:
    """What there is to compute with."""

    cpus: int
    """Logical CPUs over all nodes."""
    gpus: int
    """GPUs over all nodes."""
    nodes: int = 1
    smallest_node_cpus: int = 0
    """Logical CPUs of the smallest node; 0 on a single node."""

    @property
    def node_cpus(self) -> int:
        """Logical CPUs that are surely on one node."""
        return self.smallest_node_cpus or self.cpus


@dataclass(frozen=True)
class Decision:
    """One line of `orchestrator plan`."""

    what: str
    value: str
    reason: str


@dataclass(frozen=True)
class PreparePlan:
    """How images become shards."""

    unit_rows: int
    """Images in one unit, which becomes one shard file."""
    parallel: int
    """Units decoded at the same time."""


@dataclass(frozen=True)
class TrainPlan:
    """How the worker group trains. A global step takes `micro_batches` micro-batches of `micro_batch_rows` images."""

    workers: int
    micro_batches: int
    """Micro-batches in a global step; a multiple of `workers`, and of all `choices`."""
    micro_batch_rows: int
    steps_per_epoch: int
    epochs: int
    dropped_rows: int
    """Images of an epoch that do not fill a last global step; other ones each epoch."""
    device: str
    """`cpu` or `cuda`."""
    worker_cpus: float
    """Logical CPUs reserved for each worker."""
    threads: int
    """Compute threads of each worker."""
    choices: tuple[int, ...] = ()
    """Numbers of workers between which the group may change, in ascending order; empty where the number is fixed."""

    @property
    def parts(self) -> int:
        """Equal parts into which a step can be divided, whichever number of workers takes it."""
        return math.lcm(*self.choices) if self.choices else self.workers

    @property
    def total_steps(self) -> int:
        return self.steps_per_epoch * self.epochs


@dataclass(frozen=True)
class EvaluatePlan:
    """How the worker group predicts a split."""

    batch_rows: int
    """Images in one forward pass."""


@dataclass(frozen=True)
class TunePlan:
    """How a study runs."""

    trials: int
    points: tuple[dict[str, Any], ...]
    """Parameters by trial number; only the first ones where the search is adaptive."""
    adaptive: bool
    """Later points are chosen from earlier results."""
    workers: int
    """Workers of each trial; one worker trains inside the trial's own process."""
    concurrent: int
    """Trials at once."""
    shape: ClusterShape
    """What each trial has."""


@dataclass(frozen=True)
class ModelFacts:
    """What is known of the network before it is trained."""

    parameters: int
    trained: int
    """Parameters that are not frozen."""
    state_bytes: int
    """Parameters and statistics."""
    image_flops: int
    """Floating-point operations of a forward pass of one image; a multiplication and an addition are two."""
    image_bytes: int
    """What a forward pass of one image keeps for the backward pass, in float32."""
    weights_sha256: str = ""
    """Of the file of weights; empty where none is read."""
    new_head: str = ""
    """What replaces the last layer of the file; empty where nothing does."""


@dataclass(frozen=True)
class Plan:
    """Everything decided for a run."""

    cluster: ClusterShape
    fingerprint: str
    """Names the prepared data: `data/<fingerprint>/`."""
    classes: tuple[str, ...]
    images: dict[str, int]
    """Listed images in each split."""
    prepare: PreparePlan
    train: TrainPlan
    evaluate: EvaluatePlan
    decisions: tuple[Decision, ...]
    tune: TunePlan | None = None
    synthetic: bool = False
    """Every step takes one batch from memory: the run measures speed and leaves no model."""
    model: ModelFacts | None = None
    """Absent where the network is a function of the user's."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
