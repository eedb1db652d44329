"""How many workers a group has on the cluster as it is now, and when it has to start again: more would fit, or nobody reads for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import ray
from ray.data import DataIterator
from ray.train import TrainingFailedError

from orchestrator.errors import ClusterError, Interrupted
from orchestrator.plan.make import refit
from orchestrator.plan.values import ClusterShape
from orchestrator.plan.workers import fitting_workers
from orchestrator.record.journal import Journal
from orchestrator.stages.cluster import answering_shape, cluster_shape
from orchestrator.stages.engine import Elastic, GroupWork
from orchestrator.stages.ingest import coordinators
from orchestrator.stages.stopping import StopRequest
from orchestrator.units import format_count, format_duration

LOOK_EVERY_S = 1.0


def place(work: GroupWork, journal: Journal, stop: StopRequest) -> GroupWork:
    """The work with the nodes that answer now and the plan that fits them; a range of workers waits for nodes when there are too few.

    Raises:
        ClusterError: The nodes could not train; or some do not answer, and Ray does not count them out.
        Interrupted: The user asked to stop while nodes were waited for.
    """
    if work.cluster.nodes == 1 and not work.plan.choices:
        return work
    wait_s = work.elastic.wait_s if work.elastic else 0.0
    deadline: float | None = None
    while True:
        shape = answering_shape()
        try:
            kept = shape.nodes >= work.cluster.nodes and not work.plan.choices
            return replace(work, cluster=shape, plan=work.plan if kept else refit(work.plan, shape))
        except ClusterError as error:
            if deadline is None:
                deadline = time.monotonic() + wait_s
                journal.record("NodesRanShort", missing=error.message, wait_s=wait_s)
            if time.monotonic() >= deadline:
                waited = f"no nodes came in {format_duration(wait_s)}: " if wait_s else ""
                raise ClusterError(waited + error.message, error.next_step) from error
        if stop.asked:
            raise Interrupted(f"stopped in {work.name} while waiting for nodes; the last checkpoint is kept")
        time.sleep(LOOK_EVERY_S)


def describe_shape(shape: ClusterShape) -> str:
    """Why a group has the workers it has."""
    gpus = f", {format_count(shape.gpus, 'GPU')}" if shape.gpus else ""
    return f"the cluster has {format_count(shape.nodes, 'node')} with {format_count(shape.cpus, 'CPU')}{gpus}"


@contextmanager
def watching_growth(work: GroupWork) -> Iterator[Callable[[], None]]:
    """While a group runs: what is to be called all the time, and asks it to end when more workers of its range fit."""
    if work.elastic is None:
        yield lambda: None
        return
    watch = _GrowthWatch(work, work.elastic)
    watch.request.forget()
    try:
        yield watch.look
    finally:
        watch.request.forget()


class _GrowthWatch:
    def __init__(self, work: GroupWork, elastic: Elastic) -> None:
        self.request = StopRequest(elastic.request)
        self._grow_after_s, self._plan, self._seen = elastic.grow_after_s, work.plan, work.cluster
        self._changed = self._looked = time.monotonic()

    def look(self) -> None:
        now, plan = time.monotonic(), self._plan
        if self.request.asked or now - self._looked < LOOK_EVERY_S:
            return
        self._looked = now
        shape = cluster_shape()
        if shape != self._seen:
            self._seen, self._changed = shape, now
        if now - self._changed >= self._grow_after_s and fitting_workers(plan.choices, shape, gpus=plan.device == "cuda") > plan.workers:
            self.request.ask()


class ReadersLost(TrainingFailedError):  # type: ignore[misc]  # Ray ships no types
    """None of the nodes that read is left."""


class ReaderWatch:
    """Looks from the driver whether a node is left that reads: Ray Data would wait for minutes for one of those that it was told of.

    Args:
        shards: The streams of the feed; when no node is left they end with an error for whoever takes from them.
        nodes: Ids of the nodes that read; all where none are given.
    """

    def __init__(self, shards: Sequence[DataIterator], nodes: Sequence[str]) -> None:
        self._shards, self._nodes, self._looked_s = shards, {*nodes}, time.monotonic()
        self.lost = False

    def look(self) -> None:
        """Called again and again."""
        now_s = time.monotonic()
        if self.lost or not self._nodes or now_s - self._looked_s < LOOK_EVERY_S:
            return
        self._looked_s = now_s
        self.lost = not any(node["Alive"] and node["NodeID"] in self._nodes for node in ray.nodes())
        for coordinator in coordinators(self._shards) if self.lost else ():
            ray.kill(coordinator)
