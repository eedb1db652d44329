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
from orchestrator.errors import OrchestratorError
from orchestrator.record.journal import Journal
from orchestrator.stages.engine import GroupWork, PrepareWork
from orchestrator.stages.group import find_cause, run_group
from orchestrator.stages.prepare import prepare_unit
from orchestrator.stages.stopping import StopRequest


class RayEngine:
    """Needs a cluster that this process is connected to."""

    def prepare(self, work: PrepareWork, units: Sequence[Unit], parallel: int) -> Iterator[UnitRecord]:
        """One block is one unit; only its record travels, pixels go from the task straight into the shard."""
        by_index = {unit.index: unit for unit in units}
        dataset = ray.data.from_items([{"unit": index} for index in by_index], override_num_blocks=len(by_index)).map_batches(
            partial(_prepare_block, work, by_index), batch_size=None, batch_format="pyarrow", compute=TaskPoolStrategy(size=parallel)
        )
        try:
            for row in dataset.iter_rows():
                yield UnitRecord.from_json(row["record"])
        except ray.exceptions.RayError as error:
            cause = find_cause(error)
            if isinstance(cause, OrchestratorError):
                raise cause from error
            raise

    def run_group(self, work: GroupWork, journal: Journal, stop: StopRequest, attempts: int) -> Any:
        return run_group(work, journal, stop, attempts)


def _prepare_block(work: PrepareWork, units: dict[int, Unit], block: pa.Table) -> pa.Table:
    records = [prepare_unit(work, units[index]).to_json() for index in block["unit"].to_pylist()]
    return pa.table({"record": records})
