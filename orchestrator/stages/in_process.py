"""The plan run in this process, without Ray: the debugger, and the definition of a correct answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from orchestrator.dataset.commit import UnitRecord
from orchestrator.dataset.units import Unit
from orchestrator.plan.values import TrainPlan
from orchestrator.record.journal import Journal
from orchestrator.stages.engine import Answer, Argument, GroupWork, PrepareWork
from orchestrator.stages.failure import run_one
from orchestrator.stages.feed import Feed, read_span, spans
from orchestrator.stages.prepare import prepare_unit
from orchestrator.stages.stopping import StopRequest
from orchestrator.stages.synthetic import repeated_batches
from orchestrator.training.batch import Batch
from orchestrator.training.pulse import Pulse


class InProcessEngine:
    """One worker takes the micro-batches of all workers: the same global steps, one after the other."""

    def prepare(self, work: PrepareWork, units: Sequence[Unit], parallel: int) -> Iterator[UnitRecord]:  # noqa: ARG002 -- one at a time
        return (prepare_unit(work, unit) for unit in units)

    def run_alone(self, call: Callable[[Argument], Answer], argument: Argument, plan: TrainPlan) -> Answer:  # noqa: ARG002 -- all is here
        return call(argument)

    def run_group(self, work: GroupWork, journal: Journal, stop: StopRequest, attempts: int) -> Any:  # noqa: ARG002 -- nothing can be lost
        journal.record("AttemptStarted", attempt=1, workers=1)
        torch.set_num_threads(work.plan.threads)
        feed = work.make_feed(1)
        return run_one(work, repeated_batches(feed, 0) if work.repeats else batches_of(feed), Pulse())


def batches_of(feed: Feed) -> Iterator[Batch]:
    """A whole feed, read in this process."""
    for span in spans(feed):
        yield from read_span(feed, span)
