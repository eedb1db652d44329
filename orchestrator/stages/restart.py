"""Restarts that Ray Train makes itself, when a worker was lost.

Ray Data keeps what divides the feed and what reads it; the driver would start all of them anew, which takes as long again as the
workers need. So it is done where nothing but the workers was lost; the driver does the rest: it knows the cluster, and that a worker
was hung.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray
from ray.train import UserCallback

from orchestrator.durable import read_json, write_json
from orchestrator.errors import OrchestratorError, TrainingError
from orchestrator.record.journal import Journal
from orchestrator.stages.engine import GroupWork
from orchestrator.stages.failure import ended_meanwhile, find_cause, first_line, only_workers_are_gone
from orchestrator.stages.feed import FeedStart
from orchestrator.stages.heartbeat import OF_WORKERS, stacks_file
from orchestrator.training.batch import Batch
from orchestrator.training.memory import ended_for_memory


class Restarts:
    """What the workers and the driver tell one another of restarts, in the folder of the heartbeats."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._starved = folder, ended_for_memory()
        self._count, self.start_file = folder / "restarts.json", folder / "start.json"

    @property
    def count(self) -> int:
        """How often the group was started again so far."""
        return int(read_json(self._count)["count"]) if self._count.exists() else 0

    @property
    def starved(self) -> int:
        """`ended_for_memory()` when the group was started the last time; asked on one machine alone."""
        return int(read_json(self._count)["starved"]) if self._count.exists() else self._starved

    def add(self) -> None:
        """One more; the workers that are gone are forgotten."""
        write_json(self._count, {"count": self.count + 1, "starved": ended_for_memory()})
        for path in self.folder.glob(OF_WORKERS):
            path.unlink(missing_ok=True)

    def begin_at(self, start: FeedStart) -> None:
        """Let the feed begin there; called by a worker before it asks for its first batch, upon which the reading begins."""
        write_json(self.start_file, asdict(start))

    def noting(self, batches: Iterator[Batch], rank: int, node: str) -> Iterator[Batch]:
        """The batches; that this worker has begun to read them, and on which node, is noted."""
        for number, batch in enumerate(batches):
            if not number:
                with suppress(OSError):  # of storage that fails the checkpoints tell
                    self._reading(rank).write_text(node)
            yield batch

    def possible(self, workers: int, spare: int) -> bool:
        """Whether the group that has lost workers can be started again without the driver, on whose node this is called.

        Not where a worker was not on this node, because files may be seen late on others. Not where one had not begun to read,
        because what divides the feed waits for as many as there are, and does not notice that one is gone. Not where the driver saved
        stacks, which it does before it ends workers that are hung.
        """
        here, ranks = ray.get_runtime_context().get_node_id(), range(workers)
        all_read = all(self._reading(rank).is_file() and self._reading(rank).read_text() == here for rank in ranks)
        hung = any(path.is_file() and path.stat().st_size for path in (stacks_file(self.folder, rank) for rank in ranks))
        return all_read and not hung and self.count < spare

    def _reading(self, rank: int) -> Path:
        return self.folder / f"rank-{rank}.reading"


@dataclass(frozen=True)
class Fit:
    """What the driver leaves to Ray Train at once: a group, and its restarts."""

    work: GroupWork
    attempt: int
    """Number of the first start of the group."""
    spare: int
    """How often at most it is started again."""
    restarts: Restarts
    journal: Journal
    """The driver's."""


class RestartInPlace(UserCallback):  # type: ignore[misc]  # Ray ships no types
    """Lets Ray Train start a group again, or ends the fit with the cause.

    Args:
        fit: What this is the rule of.
        stop_reading: Called when the group is started again: what is read for the one before is lost.
    """

    def __init__(self, fit: Fit, stop_reading: Callable[[], object]) -> None:
        self._fit, self._stop_reading = fit, stop_reading
        self._journal = Journal(fit.journal.path.parent, f"{fit.work.name}-group", fit.journal.stage)

    def after_exception(self, run_context: Any, worker_exceptions: Mapping[int, Exception]) -> None:  # noqa: ARG002
        """Called by Ray Train in its thread; what it raises ends the fit.

        Raises:
            Exception: What ended the workers, where Ray Train is not to start them again.
        """
        fit, failures = self._fit, [*worker_exceptions.values()]
        cause = find_cause(failures, fit.work.when_memory_ends)
        if not isinstance(cause, Exception):  # Ray Train takes no other
            raise TrainingError(first_line(cause)) from cause
        final = isinstance(cause, OrchestratorError) or not only_workers_are_gone(failures)
        if final or not fit.restarts.possible(fit.work.plan.workers, fit.spare):
            raise cause
        attempt = fit.attempt + fit.restarts.count
        reason = first_line(cause) + ended_meanwhile(fit.restarts.starved)
        self._journal.record("AttemptFailed", attempt=attempt, error=reason)
        fit.restarts.add()
        self._stop_reading()
        self._journal.record("AttemptStarted", attempt=attempt + 1, workers=fit.work.plan.workers, nodes=fit.work.cluster.nodes)
