"""The recipe in whole runs, on both engines."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file
from workshop import CLASSES, Workshop

from orchestrator.dataset.manifest import read_manifest
from orchestrator.launch.images import find_images
from orchestrator.plan.make import DataFacts, make_plan
from orchestrator.plan.values import ClusterShape
from orchestrator.record.journal import Journal, read_events
from orchestrator.spec.load import load_job
from orchestrator.stages.engine import GroupWork
from orchestrator.stages.on_ray import RayEngine
from orchestrator.stages.stopping import StopRequest
from orchestrator.stages.train import class_rows, training_feed
from orchestrator.training.batch import Batch

Make = Callable[..., Workshop]
RECIPE = (
    "train.mixup=0.2",
    "train.cutmix=1.0",
    "train.ema=0.9",
    "train.precision=bf16",
    "train.class_weights=balanced",
    "train.clip_norm=1",
)


def named(folder: Path, name: str) -> list[dict[str, Any]]:
    return [event for event in read_events(folder) if event["event"] == name]


def test_memory_decides_once_and_the_plan_says_so(make_workshop: Make, in_process: bool) -> None:
    """`batch: auto` is probed on one worker before training; a run that is trained again takes the same answer without asking."""
    workshop = make_workshop()
    folder = workshop.run("train.batch=auto", "train.epochs=1", in_process=in_process, until="train").folder
    (probed,) = named(folder.events, "MicroBatchProbed")
    plan = json.loads(folder.plan.read_bytes())
    assert plan["train"]["micro_batches"] * plan["train"]["micro_batch_rows"] == 4
    assert plan["train"]["micro_batch_rows"] == probed["rows"]
    assert [line["reason"] for line in plan["decisions"] if line["what"] == "micro-batch"] == [probed["reason"]]

    folder.weights.unlink()
    shutil.rmtree(folder.checkpoints)
    workshop.run("train.batch=auto", "train.epochs=1", in_process=in_process, until="train")
    assert named(folder.events, "MicroBatchProbed") == [probed]
    again = json.loads(folder.plan.read_bytes())
    assert again["train"] == plan["train"]
    assert [line["reason"] for line in again["decisions"] if line["what"] == "micro-batch"] == [probed["reason"]]


def test_the_whole_recipe_trains_on_two_workers(make_workshop: Make, ray_cluster: None) -> None:
    """Two micro-batches for each of two workers, with everything on: every epoch all weights agree, and a model comes out."""
    workshop = make_workshop()
    folder = workshop.run(*RECIPE, "train.workers=2", "train.micro_batch=4", in_process=False).folder
    assert [event["workers"] for event in named(folder.events, "WeightsVerified")] == [2, 2]
    assert named(folder.events, "TrainingStarted")[0]["precision"] == "bf16"
    assert json.loads(folder.metrics.read_bytes())["rows"] == 24
    assert load_file(folder.weights)


def test_balanced_weights_count_the_training_images(make_workshop: Make) -> None:
    """Every prepared training image of each class is counted; nothing is read for a job that weighs all alike."""
    workshop = make_workshop()
    for path in sorted((workshop.images / "disc").iterdir())[:20]:
        path.unlink()
    workshop.run(in_process=True, until="prepare")
    (data,) = (path for path in workshop.root.data.iterdir() if path.is_dir())
    manifest = read_manifest(data)
    rows = class_rows(load_job(workshop.job, ["train.class_weights=balanced"]).job, manifest, data)
    assert sum(rows) == manifest.splits["train"]
    assert len(rows) == len(CLASSES)
    assert rows[0] < rows[1] == rows[2]
    assert class_rows(load_job(workshop.job).job, manifest, data) == (0, 0, 0)


def test_augmentation_reaches_the_workers(make_workshop: Make, ray_cluster: None, tmp_path: Path) -> None:
    """What a worker of a real group receives: the same images in both epochs, in other pixels; without augmentation in the same."""

    def seen(_: Any, batches: Iterator[Batch], __: Any) -> dict[str, dict[str, str]]:
        epochs: dict[str, dict[str, str]] = {}
        for batch in batches:
            if batch.phase == "train":
                for image, name in zip(batch.images, batch.ids, strict=True):
                    epochs.setdefault(str(batch.epoch), {})[name.tobytes().hex()] = hashlib.sha256(image.tobytes()).hexdigest()
        return epochs

    workshop = make_workshop()
    workshop.run(in_process=True, until="prepare")
    found: dict[str, dict[str, dict[str, str]]] = {}
    for name, augment in (("augmented", "[{random_crop: {padding: 2}}, horizontal_flip]"), ("plain", "[]")):
        job = load_job(workshop.job, [f"augment={augment}", "train.batch=72"]).job
        images = find_images(job.data, workshop.root.data)
        data = workshop.root.data / images.fingerprint
        manifest = read_manifest(data)
        plan = make_plan(job, DataFacts(images.fingerprint, manifest.classes, manifest.splits), ClusterShape(2, 0), "job.yaml")
        work = GroupWork(
            name=name,
            plan=plan.train,
            cluster=plan.cluster,
            run_one_worker=seen,
            settings=None,
            make_feed=lambda workers, job=job, plan=plan, manifest=manifest, data=data: training_feed(
                job, plan, manifest, data, tmp_path / "none", workers
            ),
            storage=tmp_path / name,
            saves_on_stop=False,
        )
        found[name] = RayEngine().run_group(work, Journal(tmp_path / "events", name, "train"), StopRequest(tmp_path / "stop"), 1)

    for epochs in found.values():
        assert epochs["0"].keys() == epochs["1"].keys()
        assert len(epochs["0"]) == 72
    changed = [key for key, pixels in found["augmented"]["0"].items() if pixels != found["augmented"]["1"][key]]
    assert len(changed) > 50
    assert found["plain"]["0"] == found["plain"]["1"]
