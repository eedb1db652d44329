"""What a task of prepare does on Ray; its process imports this before the first image, so there is neither torch nor Ray Train in it."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from orchestrator.dataset.units import Unit
from orchestrator.errors import OrchestratorError, error_to_json
from orchestrator.stages.engine import PrepareWork
from orchestrator.stages.prepare import prepare_units


def prepare_block(work: PrepareWork, units: dict[int, Unit], block: pa.Table) -> Iterator[pa.Table]:
    """Records, or the error that ended the task: what Ray Data makes of an exception no longer tells which one it was."""
    try:
        for record in prepare_units(work, [units[index] for index in block["unit"].to_pylist()]):
            yield _answer(record.to_json(), None)
    except OrchestratorError as error:
        yield _answer(None, error_to_json(error))


def _answer(record: str | None, error: str | None) -> pa.Table:
    return pa.table({"record": pa.array([record], pa.string()), "error": pa.array([error], pa.string())})
