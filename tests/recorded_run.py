"""Run folders as a real run leaves them: events through the real journal, metrics and mistakes in their real formats."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.durable import write_atomically, write_json
from orchestrator.record.folder import RunFolder
from orchestrator.record.journal import Journal

STEPS_PER_EPOCH = 40
CLASSES = ("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


def write_run(
    root: Path,
    name: str = "fashion-mnist-7f3a",
    *,
    until: str = "evaluate",
    ending: str | None = "RunFinished",
    epochs: int = 5,
    classes: Sequence[str] = CLASSES,
    paths: str = "test",
) -> RunFolder:
    """A run that came as far as `until` and ended as told; `ending=None` leaves it running."""
    folder = RunFolder(root / "runs" / name)
    begin_run(folder, classes, epochs)
    reached = ("prepare", "train", "evaluate").index(until)
    record_prepare(folder)
    if reached >= 1:
        record_training(folder, epochs, finished=reached > 1 or ending == "RunFinished")
    if reached >= 2:
        record_evaluation(folder, classes, paths)
    end_run(folder, ending)
    return folder


def begin_run(folder: RunFolder, classes: Sequence[str], epochs: int) -> None:
    write_atomically(folder.job, b"name: fashion-mnist\n")
    write_atomically(folder.resolved_job, b"name: fashion-mnist\ndata:\n  source: /images/fashion-mnist\ntrain:\n  epochs: 5\n  lr: 0.1\n")
    decisions = [
        {"what": "workers", "value": "2", "reason": "2 CPUs and no GPU: one worker for each, at most two"},
        {"what": "global batch", "value": "256 images", "reason": "4 micro-batches of 64 images, 2 for each worker"},
        {"what": "shards", "value": "8,192 images", "reason": "64 MiB of pixels at 28 x 28"},
    ]
    plan = {
        "cluster": {"cpus": 2, "gpus": 0, "nodes": 1},
        "fingerprint": "9c1e44d0",
        "classes": list(classes),
        "train": {"workers": 2, "steps_per_epoch": STEPS_PER_EPOCH, "epochs": epochs},
        "decisions": decisions,
    }
    write_json(folder.plan, plan)
    Journal(folder.events, "run", "run").record(
        "RunStarted", run=folder.name, job="fashion-mnist", version="0.1.0", command="orchestrator run fashion-mnist.yaml"
    )


def record_prepare(folder: RunFolder) -> None:
    journal = Journal(folder.events, "prepare-driver", "prepare")
    journal.record("StageStarted")
    for unit in range(2):
        journal.record(
            "UnitPrepared",
            unit=unit,
            rows=34_994,
            rejects=6,
            done=unit + 1,
            units=2,
            images=35_000 * (unit + 1),
            total_images=70_000,
            images_per_s=5_210.4,
            eta_s=6.7 * (1 - unit),
        )
    journal.record(
        "DataPrepared",
        fingerprint="9c1e44d0",
        rows=69_988,
        rejects=12,
        reject_reasons={"truncated": 9, "not-an-image": 3},
        splits={"train": 53_991, "validation": 5_999, "test": 9_998},
        skipped={"hidden file": 4},
        seconds=13.4,
        images_per_s=5_223.0,
        reused=False,
    )
    journal.record("StageFinished", seconds=14.1)


def record_training(folder: RunFolder, epochs: int, *, finished: bool) -> None:
    driver, worker = Journal(folder.events, "train-driver", "train"), Journal(folder.events, "train-0", "train")
    driver.record("StageStarted")
    driver.record("AttemptStarted", attempt=1, workers=2)
    worker.record("TrainingStarted", parameters=78_042, workers=2, device="cpu", resumed_from_step=0)
    for epoch in range(epochs):
        record_epoch(worker, epoch, epochs)
    if finished:
        worker.record("TrainingFinished", epochs=epochs, best_epoch=epochs - 1, best_validation_accuracy=0.9, seconds=131.0)
        driver.record("StageFinished", seconds=140.2)


def record_epoch(worker: Journal, epoch: int, epochs: int) -> None:
    total = epochs * STEPS_PER_EPOCH
    for step in range(0, STEPS_PER_EPOCH, 4):
        now = epoch * STEPS_PER_EPOCH + step
        worker.record(
            "Progress",
            epoch=epoch,
            step=step,
            steps_per_epoch=STEPS_PER_EPOCH,
            global_step=now,
            total_steps=total,
            loss=2.2 * math.exp(-now / 60) + 0.3 + 0.05 * math.sin(now),
            lr=0.05 * (1 + math.cos(math.pi * now / total)),
            images_per_s=2_100 + 90 * math.sin(now / 3),
            wait_share=0.04 + 0.02 * math.cos(now / 5),
            transfer_share=0.01,
            compute_share=0.82,
            sync_share=0.06 + 0.01 * math.sin(now / 4),
            checkpoint_share=0.01,
            eta_s=(total - now) * 0.12,
        )
    worker.record(
        "EpochFinished",
        epoch=epoch,
        train_loss=1.2 * math.exp(-epoch / 2) + 0.25,
        train_accuracy=0.93 - 0.3 * math.exp(-epoch / 1.5),
        validation_accuracy=0.905 - 0.28 * math.exp(-epoch / 1.5),
        validation_loss=1.1 * math.exp(-epoch / 2) + 0.31,
        seconds=26.0,
        images=10_240,
        images_per_s=2_098.0,
        wait_s=1.1,
        transfer_s=0.1,
        compute_s=21.4,
        sync_s=0.2,
        validate_s=2.9,
        checkpoint_s=0.3,
    )
    worker.record("CheckpointSaved", name=f"step-{(epoch + 1) * STEPS_PER_EPOCH:08d}")
    worker.record("WeightsVerified", epoch=epoch, sha256="ab" * 32, workers=2)


def record_evaluation(folder: RunFolder, classes: Sequence[str], paths: str) -> None:
    journal = Journal(folder.events, "evaluate-driver", "evaluate")
    journal.record("StageStarted")
    confusion = made_up_confusion(len(classes))
    hits, rows = int(np.trace(confusion)), int(confusion.sum())
    metrics = {
        "split": "test",
        "rows": rows,
        "accuracy": hits / rows,
        "top5": 0.9978,
        "loss": 0.2741,
        "macro_f1": 0.9052,
        "balanced_accuracy": 0.9057,
        "ece": 0.0213,
        "per_class": [class_metrics(confusion, place, name) for place, name in enumerate(classes)],
        "confusion": confusion.tolist(),
    }
    write_json(folder.metrics, metrics)
    write_mistakes(folder, len(classes), paths)
    journal.record("ModelEvaluated", split="test", rows=rows, accuracy=hits / rows, loss=0.2741, seconds=3.2)
    journal.record("StageFinished", seconds=4.5)


def made_up_confusion(classes: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Every class is taken for its neighbours now and then."""
    rng = np.random.default_rng(7)
    confusion = np.zeros((classes, classes), np.int64)
    for truth in range(classes):
        for predicted in rng.choice(classes, size=min(4, classes), replace=False):
            confusion[truth, predicted] += int(rng.integers(3, 60))
        confusion[truth, truth] = 1000 - int(confusion[truth].sum() - confusion[truth, truth])
    return confusion


def class_metrics(confusion: np.ndarray[tuple[int, ...], np.dtype[np.int64]], place: int, name: str) -> dict[str, object]:
    hits = int(confusion[place, place])
    precision, recall = hits / int(confusion[:, place].sum()), hits / int(confusion[place].sum())
    return {"name": name, "precision": precision, "recall": recall, "f1": 2 * precision * recall / (precision + recall), "support": 1000}


def write_mistakes(folder: RunFolder, classes: int, paths: str) -> None:
    rng = np.random.default_rng(3)
    pictures = [cv2.imencode(".png", cv2.GaussianBlur(rng.integers(0, 256, (28, 28), np.uint8), (9, 9), 0))[1].tobytes() for _ in range(24)]
    columns = {
        "id": [f"{place:032x}" for place in range(24)],
        "path": [f"{paths}/{place % classes}/{place:05d}.png" for place in range(24)],
        "label": pa.array([place % classes for place in range(24)], pa.int64()),
        "predicted": pa.array([(place + 1) % classes for place in range(24)], pa.int64()),
        "probability": pa.array([0.999 - 0.01 * place for place in range(24)], pa.float32()),
        "png": pa.array(pictures, pa.binary()),
    }
    pq.write_table(pa.table(columns), folder.mistakes)


def record_preview(folder: RunFolder, classes: Sequence[str]) -> None:
    """Two pictures of each class, as the stage that trains leaves them."""
    rng = np.random.default_rng(5)
    pngs = [cv2.imencode(".png", rng.integers(0, 256, (64, 64, 3), np.uint8))[1].tobytes() for _ in range(2 * len(classes))]
    pictures = [base64.b64encode(png).decode() for png in pngs]
    images = [
        {"id": f"{place:032x}", "path": f"{name}/{place}.jpg", "name": name, "pictures": pictures[2 * place : 2 * place + 2]}
        for place, name in enumerate(classes)
    ]
    write_json(folder.preview, {"headings": ["evaluated", "epoch 1"], "size": 224, "shown": 64, "images": images})


def end_run(folder: RunFolder, ending: str | None) -> None:
    journal = Journal(folder.events, "run", "run")
    if ending == "RunFinished":
        journal.record("RunFinished", seconds=160.0)
    elif ending == "RunFailed":
        journal.record("RunFailed", error="loss is not finite at step 113", next_step="lower train.lr")
    elif ending == "RunInterrupted":
        journal.record("RunInterrupted")
