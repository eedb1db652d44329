"""The plan run on Ray: Ray Data prepares the units in parallel tasks, Ray Train runs the worker groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import ray.data
from ray.data import TaskPoolStrategy

from orchestrator.dataset.commit import UnitRecord
from orchestrator.dataset.units import Unit
from orchestrator.errors import OrchestratorError, error_from_json, error_to_json
from orchestrator.record.journal import Journal
from orchestrator.stages.engine import GroupWork, PrepareWork
from orchestrator.stages.group import run_group
from orchestrator.stages.prepare import prepare_unit
from orchestrator.stages.stopping import StopRequest


class RayEngine:
    """Needs a cluster that this process is connected to."""

    def prepare(self, work: PrepareWork, units: Sequence[Unit], parallel: int) -> Iterator[UnitRecord]:
        """One block is one unit; only its record travels, pixels go from the task straight into the shard.

        The largest units come first, so that no worker begins a large one when the others are about to end.
        """
        by_index = {unit.index: unit for unit in sorted(units, key=lambda unit: unit.start - unit.stop)}
        dataset = ray.data.from_items([{"unit": index} for index in by_index], override_num_blocks=len(by_index)).map_batches(
            partial(_prepare_block, work, by_index),
            batch_size=None,
            batch_format="pyarrow",
            compute=TaskPoolStrategy(size=min(parallel, len(units))),
        )
        for row in dataset.iter_rows():
            if row["error"] is not None:
                raise error_from_json(row["error"])
            yield UnitRecord.from_json(row["record"])

    def run_group(self, work: GroupWork, journal: Journal, stop: StopRequest, attempts: int) -> Any:
        return run_group(work, journal, stop, attempts)


def _prepare_block(work: PrepareWork, units: dict[int, Unit], block: pa.Table) -> pa.Table:
    """The record of the unit, or the error that ended it: what Ray Data makes of an exception no longer tells which one it was."""
    (index,) = block["unit"].to_pylist()
    record, failure = None, None
    try:
        record = prepare_unit(work, units[index]).to_json()
    except OrchestratorError as error:
        failure = error_to_json(error)
    return pa.table({"record": pa.array([record], pa.string()), "error": pa.array([failure], pa.string())})
