"""Whether what a run wrote is still whole: its checkpoints, its model, its predictions."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.dataset.verify import file_faults
from orchestrator.durable import read_json
from orchestrator.errors import StorageError
from orchestrator.record.folder import RunFolder
from orchestrator.training.checkpoint import CheckpointStore


def run_faults(folder: RunFolder) -> list[str]:
    """What is damaged or missing of a run and of its trials, one line each."""
    own = [*_checkpoint_faults(folder), *_model_faults(folder), *_evaluation_faults(folder)]
    trials = (RunFolder(events.parent) for events in sorted(folder.trials.glob("*/events")))
    return own + [fault for trial in trials for fault in run_faults(trial)]


def _checkpoint_faults(folder: RunFolder) -> Iterator[str]:
    for name, reason in CheckpointStore(folder.checkpoints).faults():
        yield f"{folder.checkpoints / name} is damaged: {reason}"


def _model_faults(folder: RunFolder) -> Iterator[str]:
    facts = folder.model / "model.json"
    if not folder.model.is_dir():
        return
    try:
        yield from file_faults(folder.weights, str(read_json(facts)["weights_sha256"]))
    except (StorageError, KeyError, TypeError) as error:
        yield f"{facts} is damaged: {error}"


def _evaluation_faults(folder: RunFolder) -> Iterator[str]:
    """Page checksums cover the predictions; their number must be that of the metrics."""
    if not folder.evaluation.is_dir():
        return
    try:
        rows = int(read_json(folder.metrics)["rows"])
        predicted = pq.read_table(folder.predictions, page_checksum_verification=True).num_rows
        pq.read_table(folder.mistakes, page_checksum_verification=True)
    except (StorageError, KeyError, TypeError, ValueError, OSError, pa.ArrowException) as error:
        yield f"{folder.evaluation} is damaged: {str(error).splitlines()[0]}"
        return
    if predicted != rows:
        yield f"{folder.predictions} has {predicted} rows, {folder.metrics.name} counts {rows}"
