"""The plan run on Ray: Ray Data prepares the units in parallel tasks, Ray Train runs the worker groups."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import ray.data
from ray.data import TaskPoolStrategy

from orchestrator.dataset.commit import UnitRecord
from orchestrator.dataset.units import Unit
from orchestrator.errors import error_from_json
from orchestrator.plan.groups import group_units
from orchestrator.plan.values import TrainPlan
from orchestrator.record.journal import Journal
from orchestrator.stages.block import prepare_block
from orchestrator.stages.engine import Answer, Argument, GroupWork, PrepareWork
from orchestrator.stages.group import run_alone, run_group
from orchestrator.stages.stopping import StopRequest


class RayEngine:
    """Needs a cluster that this process is connected to."""

    def prepare(self, work: PrepareWork, units: Sequence[Unit], parallel: int) -> Iterator[UnitRecord]:
        """One block is what one task prepares; only records travel, pixels go from the task straight into the shards."""
        groups = group_units([unit.stop - unit.start for unit in units], parallel)
        blocks = [pa.table({"unit": pa.array([units[place].index for place in group], pa.int64())}) for group in groups]
        dataset = ray.data.from_arrow(blocks).map_batches(
            partial(prepare_block, work, {unit.index: unit for unit in units}),
            batch_size=None,
            batch_format="pyarrow",
            # As many again wait in line for their CPU, so that no CPU waits for Ray Data to send the next one.
            compute=TaskPoolStrategy(size=min(2 * parallel, len(blocks))),
        )
        # Records take no memory, and where it is reserved all tasks but one wait for a second.
        dataset.context.op_resource_reservation_enabled = False
        dataset.context.target_max_block_size = 1  # Ray gathers what a task yields up to this size; every record is wanted at once
        for row in dataset.iter_rows():
            if row["error"] is not None:
                raise error_from_json(row["error"])
            yield UnitRecord.from_json(row["record"])

    def run_alone(self, call: Callable[[Argument], Answer], argument: Argument, plan: TrainPlan) -> Answer:
        return run_alone(call, argument, plan)

    def run_group(self, work: GroupWork, journal: Journal, stop: StopRequest, attempts: int) -> Any:
        return run_group(work, journal, stop, attempts)
