"""evaluate: every image of a split is predicted once, and the metrics come from the predictions alone."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from orchestrator.dataset.manifest import Manifest
from orchestrator.dataset.shards import ALL, SHARDS, read_rows
from orchestrator.durable import write_json
from orchestrator.errors import TrainingError
from orchestrator.images.view import View
from orchestrator.plan.batch import lighter_evaluation
from orchestrator.plan.values import Plan
from orchestrator.record.folder import RunFolder
from orchestrator.record.journal import Journal
from orchestrator.spec.job import JobSpec
from orchestrator.stages.augmentation import view_of
from orchestrator.stages.engine import Engine, GroupWork
from orchestrator.stages.feed import Feed
from orchestrator.stages.parquet import write_table
from orchestrator.stages.stopping import StopRequest
from orchestrator.stages.train import require_device
from orchestrator.training.batch import Batch
from orchestrator.training.distributed import world
from orchestrator.training.export import load_model
from orchestrator.training.metrics import Predictions, check_complete, sort_by_id, summarize
from orchestrator.training.normalise import Normalize
from orchestrator.training.predict import concatenate, predict_batches
from orchestrator.training.pulse import Pulse

ATTEMPTS = 3
REPORT_EVERY_S = 1.0


@dataclass(frozen=True)
class EvaluateSettings:
    """What travels to every worker."""

    model: Path
    parts: Path
    """Where each worker leaves its predictions."""
    events: Path
    device: str
    rows: int
    """Images in the split."""


def evaluation_split(images: dict[str, int]) -> str:
    """The split that the final evaluation takes: the best one that there is."""
    return next(name for name in ("test", "validation", "train") if images.get(name))


def evaluate_model(
    job: JobSpec,
    plan: Plan,
    manifest: Manifest,
    data: Path,
    folder: RunFolder,
    engine: Engine,
    journal: Journal,
    stop: StopRequest,
    split: str = "",
) -> None:
    """Predict a split with the run's model and write predictions, metrics and the worst mistakes.

    Raises:
        TrainingError: Not every image of the split was predicted exactly once.
    """
    split = split or evaluation_split(plan.images)
    started = time.perf_counter()
    parts = folder.evaluation / "parts"
    shutil.rmtree(parts, ignore_errors=True)
    settings = EvaluateSettings(folder.model, parts, folder.events, plan.train.device, plan.images[split])
    work = GroupWork(
        name="evaluate",
        plan=plan.train,
        cluster=plan.cluster,
        run_one_worker=predict_one_worker,
        settings=settings,
        make_feed=partial(evaluation_feed, job, plan, manifest, data, split),
        storage=folder.attempts,
        saves_on_stop=False,
        hang_s=job.train.hang_s,
        when_memory_ends=lighter_evaluation(job.evaluate.batch),
    )
    workers: int = engine.run_group(work, journal, stop, ATTEMPTS)
    predictions = sort_by_id(read_parts(parts, workers))
    check_complete(predictions, plan.images[split])
    metrics = summarize(predictions, manifest.classes, split)
    write_mistakes(folder, predictions, manifest, data, split, job)
    write_table(folder.predictions, predictions_table(predictions))
    write_json(folder.metrics, metrics)
    shutil.rmtree(parts)
    seconds = round(time.perf_counter() - started, 1)
    journal.record("ModelEvaluated", split=split, rows=metrics["rows"], accuracy=metrics["accuracy"], loss=metrics["loss"], seconds=seconds)


def evaluation_feed(job: JobSpec, plan: Plan, manifest: Manifest, data: Path, split: str, workers: int) -> Feed:
    view = view_of(manifest.image, job.data.image.size)
    return Feed(data=data, manifest=manifest, view=view, workers=workers, evaluation_rows=plan.evaluate.batch_rows, split=split)


def predict_one_worker(settings: EvaluateSettings, batches: Iterator[Batch], pulse: Pulse) -> int:
    """Runs in every worker of the group; leaves one Parquet file in `settings.parts`.

    Returns:
        How many workers do.
    """
    require_device(settings.device)
    rank, workers = world()
    journal = Journal(settings.events, f"evaluate-{rank}", "evaluate")
    model, preprocess = load_model(settings.model)
    device = torch.device(settings.device)
    model.to(device).eval()
    normalize = Normalize(preprocess["mean"], preprocess["std"]).to(device)
    predicted: list[Predictions] = []
    rows, started, reported = 0, time.perf_counter(), 0.0
    for predictions in predict_batches(model, normalize, _watched(batches, pulse), device):
        predicted.append(predictions)
        rows += len(predictions.labels)
        elapsed = time.perf_counter() - started
        if rank == 0 and elapsed - reported >= REPORT_EVERY_S:
            reported = elapsed
            done = min(rows * workers, settings.rows)
            journal.record("BatchesPredicted", rows=done, total_rows=settings.rows, images_per_s=round(done / elapsed, 1))
    write_table(part_file(settings.parts, rank, workers), predictions_table(concatenate(predicted)))
    return workers


def _watched(batches: Iterator[Batch], pulse: Pulse) -> Iterator[Batch]:
    """Each batch is a step, which ends when the next one is asked for."""
    for batch in batches:
        with pulse.stepping(0, batch.step):
            pulse.note("compute")
            yield batch
        pulse.note("wait")


def predictions_table(predictions: Predictions) -> pa.Table:
    return pa.table(
        {
            "id": pa.array([row.tobytes().hex() for row in predictions.ids], pa.string()),
            "label": predictions.labels,
            "predicted": predictions.predicted,
            "probability": predictions.probability,
            "label_probability": predictions.label_probability,
            "in_top5": predictions.in_top5,
            "loss": predictions.loss,
        }
    )


def part_file(parts: Path, rank: int, workers: int) -> Path:
    """What a worker of a group that was lost has left is not taken for that of another number of workers."""
    return parts / f"part-{rank}-of-{workers}.parquet"


def read_parts(parts: Path, workers: int) -> Predictions:
    """What all workers predicted, in any order."""
    table = pa.concat_tables([pq.read_table(part_file(parts, rank, workers)) for rank in range(workers)])
    ids = np.frombuffer(b"".join(bytes.fromhex(value) for value in table["id"].to_pylist()), np.uint8).reshape(-1, 16)
    columns = {name: table[name].to_numpy() for name in table.column_names if name not in ("id", "label")}
    return Predictions(ids=ids, labels=table["label"].to_numpy(), **columns)


def write_mistakes(folder: RunFolder, predictions: Predictions, manifest: Manifest, data: Path, split: str, job: JobSpec) -> None:
    """The wrong predictions with the highest probability, with their pictures, worst first."""
    wrong = np.flatnonzero(predictions.labels != predictions.predicted)
    worst = wrong[np.argsort(-predictions.probability[wrong], kind="stable")][: job.evaluate.mistakes]
    wanted = {predictions.ids[place].tobytes(): int(place) for place in worst}
    pictures = find_pictures(manifest, data, split, set(wanted), view_of(manifest.image, job.data.image.size))
    write_table(
        folder.mistakes,
        pa.table(
            {
                "id": pa.array([identity.hex() for identity in wanted], pa.string()),
                "path": pa.array([pictures[identity][0] for identity in wanted], pa.string()),
                "label": predictions.labels[worst],
                "predicted": predictions.predicted[worst],
                "probability": predictions.probability[worst],
                "png": pa.array([pictures[identity][1] for identity in wanted], pa.binary()),
            }
        ),
    )


def find_pictures(manifest: Manifest, data: Path, split: str, wanted: set[bytes], view: View) -> dict[bytes, tuple[str, bytes]]:
    """Path and PNG of each wanted id.

    Raises:
        TrainingError: The shards do not hold one of them.
    """
    found = dict[bytes, tuple[str, bytes]]()
    for shard in manifest.shards:
        if shard.split != split or len(found) == len(wanted):
            continue
        columns = read_rows(data / SHARDS / shard.name, ALL)
        for row, identity in enumerate(columns.ids):
            if identity.tobytes() in wanted:
                found[identity.tobytes()] = (columns.paths[row], view.to_png(columns.images[row]))
    if len(found) != len(wanted):
        raise TrainingError(
            f"{len(wanted) - len(found)} predicted images are not in the prepared data", "delete the data folder and run the job again"
        )
    return found
