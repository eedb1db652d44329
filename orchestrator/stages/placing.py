"""How many workers a group has on the cluster as it is now, and when it is worth to start it again with more."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from orchestrator.errors import ClusterError, Interrupted
from orchestrator.plan.make import refit
from orchestrator.plan.values import ClusterShape
from orchestrator.plan.workers import fitting_workers
from orchestrator.record.journal import Journal
from orchestrator.stages.cluster import answering_shape, cluster_shape
from orchestrator.stages.engine import Elastic, GroupWork
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
