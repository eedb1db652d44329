"""A feed as a Ray Data dataset: one block is one ready micro-batch, and blocks reach the workers in the order of the feed.

Every process that reads imports this module before its first image: it has neither torch nor ray.train in it.

Ray Data's splitter hands every block to the worker that has had the fewest rows. A block holds exactly one row here, so
worker r of N receives the micro-batches r, r+N, r+2N, ...; `batches_of_rank` checks the index of each one that arrives.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data
from numpy.typing import NDArray
from ray import ObjectRef
from ray.data import DataContext, DataIterator, Dataset, Datasource, ExecutionOptions, ReadTask
from ray.data._internal.cluster_autoscaler.default_autoscaling_coordinator import get_or_create_autoscaling_coordinator
from ray.data.block import BlockMetadata
from ray.exceptions import RayError

from orchestrator.durable import read_json
from orchestrator.errors import OrchestratorError, TrainingError, error_from_json, error_to_json
from orchestrator.stages.feed import Feed, FeedStart, Span, read_span, spans
from orchestrator.training.batch import Batch, Phase

PREFETCH = 4
"""Micro-batches that a worker asks for ahead of time."""
END_S = 5.0
"""Reading comes to its end within this time, or is ended."""
READERS_STARTED = 16
"""Processes that read, at most, started before they are needed; Ray starts the others."""
NO_ROWS = (np.empty((0, 1, 1, 1), np.uint8), np.empty(0, np.int64), np.empty((0, 16), np.uint8))
"""Images, labels and ids of no image."""


class FeedSource(Datasource):  # type: ignore[misc]  # Ray ships no types
    """One read task for each span of the feed; a task yields its micro-batches one by one.

    Args:
        feed: What is read.
        start: File that tells at each beginning where the feed begins now; while it is not there, the feed begins where it says itself.
    """

    def __init__(self, feed: Feed, start: Path | None = None) -> None:
        self._feed, self._start = feed, start

    def get_name(self) -> str:
        return "Feed"

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(
        self,
        parallelism: int,  # noqa: ARG002 -- the feed decides its own grain
        per_task_row_limit: int | None = None,  # noqa: ARG002
        data_context: DataContext | None = None,  # noqa: ARG002
    ) -> list[ReadTask]:
        feed = self._feed
        if self._start and self._start.exists():
            feed = replace(feed, start=FeedStart(**read_json(self._start)))
        stored = ray.put(feed)  # once: the manifest of a large collection would outweigh every task
        return [_read_task(stored, span) for span in spans(feed)]


def _read_task(stored: ObjectRef[Feed], span: Span) -> ReadTask:
    metadata = BlockMetadata(num_rows=span.stop - span.first, size_bytes=None, input_files=None, exec_stats=None)
    return ReadTask(lambda: _blocks(stored, span), metadata)


@lru_cache(maxsize=1)
def _fetched(stored: ObjectRef[Feed]) -> Feed:
    """The feed, unpickled once in every process that reads."""
    feed: Feed = ray.get(stored)
    return feed


def _blocks(stored: ObjectRef[Feed], span: Span) -> Iterator[pa.Table]:
    """The micro-batches; an error travels as the last block, because of an exception Ray Data delivers only the text."""
    try:
        for batch in read_span(_fetched(stored), span):
            yield to_block(batch)
    except OrchestratorError as error:
        failed = Batch(-1, span.phase, span.epoch, -1, *NO_ROWS)
        yield to_block(failed, error_to_json(error))


def make_dataset(feed: Feed, nodes: Sequence[str] = (), task_cpus: float = 1.0, start: Path | None = None) -> Dataset:
    """The feed, lazily; nothing is read before a worker asks.

    Args:
        feed: What is read.
        nodes: Ids of the nodes that read; all where none are given.
        task_cpus: Logical CPUs that Ray takes for each task that reads.
        start: See `FeedSource`.
    """
    dataset = ray.data.read_datasource(FeedSource(feed, start), override_num_blocks=1, label_selector=_labels(nodes), num_cpus=task_cpus)
    dataset.context.enable_progress_bars = False
    dataset.context.execution_options = ExecutionOptions(preserve_order=True)
    # Ray gathers small blocks up to this size; one byte keeps every micro-batch a block of its own.
    dataset.context.target_max_block_size = 1
    return dataset


@contextmanager
def streams(feed: Feed, free_cpus: float, nodes: Sequence[str] = (), start: Path | None = None) -> Iterator[list[DataIterator]]:
    """One stream of the feed for each of its workers, as long as the context lasts; their reading begins whenever all of them ask.

    Ray Train makes such streams itself of the `datasets` of a trainer, but one process after the other and only when the workers are
    there; these processes start beside the workers.

    Args:
        feed: What is read.
        free_cpus: CPUs of a node that the workers leave to Ray Data.
        nodes: Ids of the nodes that read; all where none are given.
        start: See `FeedSource`.
    """
    shards = make_dataset(feed, nodes, task_cpus(free_cpus), start).streaming_split(feed.workers, equal=True)
    start_readers(nodes, free_cpus)
    try:
        yield shards
    finally:
        with suppress(RayError):
            ray.get(stop_reading(shards), timeout=END_S)
        for coordinator in coordinators(shards):
            ray.kill(coordinator)


def stop_reading(shards: Sequence[DataIterator]) -> list[ObjectRef[None]]:
    """End streams where they are: otherwise Ray Data reads on for whoever is gone. Who asks for them again gets them from their beginning.

    The processes that read stay; Ray Data would kill them where streams begin again that have not ended.

    Returns:
        What is there when they have ended.
    """
    return [coordinator.shutdown_executor.remote() for coordinator in coordinators(shards)]


def coordinators(shards: Sequence[DataIterator]) -> list[Any]:
    """The process that divides a feed into streams, which lives while anything remembers them; none where there are no streams."""
    return [shard._coord_actor for shard in shards[:1]]  # noqa: SLF001 -- Ray has no public way to end it


def start_readers(nodes: Sequence[str], free_cpus: float) -> None:
    """Start what reading waits for: the process that divides the cluster between trainings and data, and processes with our modules.

    Ray starts them itself when somebody needs them; that is too late for the first step. One after the other, because Ray Train's
    controller, for which the workers wait, starts at the same time.
    """
    ready = get_or_create_autoscaling_coordinator().__ray_ready__.remote()
    task = ray.remote(_import_modules).options(num_cpus=0, label_selector=_labels(nodes), scheduling_strategy="SPREAD")
    for _ in range(min(READERS_STARTED, int(free_cpus) + 1)):
        task.remote(ready)


def _import_modules(_ready: object) -> None:
    """To find this function, a process imports this module, and all that reading needs with it; it does so when `_ready` is there."""


def _labels(nodes: Sequence[str]) -> dict[str, str] | None:
    """What Ray is told of where something may run."""
    return {"ray.io/node-id": f"in({','.join(nodes)})"} if nodes else None


def task_cpus(free_cpus: float) -> float:
    """A little less than one CPU for each task that reads, so that a node runs one more of them than it has CPUs to spare.

    Ray Data sends a task only when another one has ended, and a CPU would have nothing to do until then: for a quarter of the time
    where pixels are stored raw.
    """
    whole = max(1, int(free_cpus))
    return math.floor(1000 * whole / (whole + 1)) / 1000


def to_block(batch: Batch, error: str | None = None) -> pa.Table:
    """A table of one row; the pixels are one binary value that shares memory with the array."""
    return pa.table(
        {
            "index": pa.array([batch.index], pa.int64()),
            "phase": pa.array([batch.phase.value]),
            "epoch": pa.array([batch.epoch], pa.int32()),
            "step": pa.array([batch.step], pa.int64()),
            "shape": pa.array([list(batch.images.shape)], pa.list_(pa.int64())),
            "images": _binary(batch.images),
            "labels": _binary(batch.labels),
            "ids": _binary(batch.ids),
            "error": pa.array([error], pa.string()),
        }
    )


def _binary(values: np.ndarray[Any, Any]) -> pa.Array:
    offsets = np.array([0, values.nbytes], np.int64)
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(values))])


def from_block(table: pa.Table) -> Batch:
    """The inverse of `to_block`; the arrays are read-only views of the block.

    Raises:
        OrchestratorError: The one that ended the reading.
    """
    if (error := table["error"][0].as_py()) is not None:
        raise error_from_json(error)
    shape = table["shape"][0].as_py()
    return Batch(
        index=table["index"][0].as_py(),
        phase=Phase(table["phase"][0].as_py()),
        epoch=table["epoch"][0].as_py(),
        step=table["step"][0].as_py(),
        images=_content(table["images"]).reshape(shape),
        labels=_content(table["labels"]).view(np.int64),
        ids=_content(table["ids"]).reshape(-1, 16),
    )


def _content(column: pa.ChunkedArray) -> NDArray[np.uint8]:
    """The only value of a column, in the memory of the block: what Arrow calls a scalar would be a copy."""
    values = column.chunk(0)
    _, offsets, content = values.buffers()
    start, stop = np.frombuffer(offsets, np.int64)[values.offset : values.offset + 2].tolist()
    return np.frombuffer(content, np.uint8)[start:stop]


def batches_of_rank(shard: DataIterator, rank: int, workers: int) -> Iterator[Batch]:
    """The micro-batches of one worker, each checked to be the one that is due.

    Raises:
        TrainingError: Ray Data delivered another micro-batch than the order of the feed demands.
        OrchestratorError: The one that ended the reading.
    """
    due = rank
    for table in shard.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=PREFETCH):
        for row in range(table.num_rows):
            batch = from_block(table.slice(row, 1))
            if batch.index != due:
                raise TrainingError(
                    f"worker {rank} received micro-batch {batch.index} where {due} was due", "report this with the run folder"
                )
            yield batch
            due += workers
