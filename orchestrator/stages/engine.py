"""What a way of running a plan must offer; `on_ray` and `in_process` are the two."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from orchestrator.dataset.commit import UnitRecord
from orchestrator.dataset.units import Unit
from orchestrator.images.picture import PixelWork
from orchestrator.plan.values import ClusterShape, TrainPlan
from orchestrator.record.journal import Journal
from orchestrator.stages.feed import Feed
from orchestrator.stages.stopping import StopRequest
from orchestrator.training.batch import Batch
from orchestrator.training.pulse import Pulse


@dataclass(frozen=True)
class PrepareWork:
    """What preparing one unit needs to know, besides the unit."""

    base: str
    """What the paths of the listing are seen from."""
    data: Path
    """The folder of the prepared data, with the listing in it."""
    pixels: PixelWork


@dataclass(frozen=True)
class Elastic:
    """How a group whose number of workers is a range follows the cluster."""

    request: Path
    """File that asks the workers to save and end, to be started again in another number."""
    grow_after_s: float
    """Seconds that a cluster must have stayed as it is before the group grows."""
    wait_s: float
    """Seconds to wait for nodes when too few are left."""


@dataclass(frozen=True)
class GroupWork:
    """What a worker group does."""

    name: str
    """Name of the group in Ray's own records."""
    plan: TrainPlan
    cluster: ClusterShape
    """What the plan counts on."""
    run_one_worker: Callable[[Any, Iterator[Batch], Pulse], Any]
    """Called in every worker with `settings`, the worker's batches, and what is to be told of its doings; travels by name."""
    settings: Any
    make_feed: Callable[[int], Feed]
    """Called with the number of workers at every start of the group."""
    storage: Path
    """Where Ray Train keeps its own records."""
    saves_on_stop: bool
    """The workers see the wish to stop themselves, and save before they end."""
    repeats: bool = False
    """Each worker repeats one batch from memory, with the shapes and in the order of the feed."""
    elastic: Elastic | None = None
    """Absent where the group stays as it was started until a worker is lost."""
    hang_s: float = 60.0
    """After this many seconds in which it does nothing a worker counts as hung (see `heartbeat`)."""
    when_memory_ends: str = ""
    """What the user can do when a worker runs out of memory."""
    when_validation_ends_memory: str = ""
    """And when it does so with validation images, which are taken in batches of their own."""


Argument = TypeVar("Argument")
Answer = TypeVar("Answer")


class Engine(Protocol):
    """A way of running a plan."""

    def prepare(self, work: PrepareWork, units: Sequence[Unit], parallel: int) -> Iterator[UnitRecord]:
        """Prepare the units, `parallel` at a time, in any order; each record is yielded when its shard is on disk."""
        ...

    def run_alone(self, call: Callable[[Argument], Answer], argument: Argument, plan: TrainPlan) -> Answer:
        """Call a function with what one worker of a group would have, before the group is started."""
        ...

    def run_group(self, work: GroupWork, journal: Journal, stop: StopRequest, attempts: int) -> Any:
        """Run a worker group to its end and return what rank 0 returned; a lost group is started up to `attempts` times."""
        ...
