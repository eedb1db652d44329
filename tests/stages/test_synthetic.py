"""The ceiling: training on one batch from memory does the steps of the real run and touches nothing of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from workshop import Workshop

from orchestrator.cli.run_verbs import resume
from orchestrator.dataset.manifest import Manifest, read_manifest
from orchestrator.errors import JobError, StorageError
from orchestrator.launch.ceiling import measure_ceiling
from orchestrator.launch.evaluate import evaluate_run
from orchestrator.launch.run import RunOutcome, is_synthetic
from orchestrator.plan.values import TrainPlan
from orchestrator.record.folder import RunFolder
from orchestrator.record.journal import read_events
from orchestrator.reports.fold import fold
from orchestrator.stages.augmentation import view_of
from orchestrator.stages.feed import Feed, FeedStart, epoch_order
from orchestrator.stages.in_process import batches_of
from orchestrator.stages.synthetic import repeated_batches
from orchestrator.training.batch import Batch

Make = Callable[..., Workshop]
PLAN = TrainPlan(
    workers=2, micro_batches=4, micro_batch_rows=4, steps_per_epoch=4, epochs=2, dropped_rows=0, device="cpu", worker_cpus=1, threads=1
)


def measure(workshop: Workshop, *overrides: str, in_process: bool) -> tuple[RunOutcome, str]:
    return measure_ceiling(
        workshop.job,
        overrides,
        workshop.root,
        in_process=in_process,
        command="test",
        watch=lambda _: nullcontext(),
        announce=lambda _: None,
    )


def prepared(workshop: Workshop) -> tuple[Path, Manifest]:
    workshop.run(in_process=True, until="prepare")
    (data,) = (path for path in workshop.root.data.iterdir() if path.is_dir())
    return data, read_manifest(data)


def feed_of(data: Path, manifest: Manifest) -> Feed:
    return Feed(data=data, manifest=manifest, view=view_of(manifest.image, manifest.image.size), workers=1, evaluation_rows=10)


def schedule(batch: Batch) -> tuple[object, ...]:
    return (batch.index, batch.phase, batch.epoch, batch.step, batch.images.shape, batch.labels.shape, batch.ids.shape)


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("start", [FeedStart(0, 0), FeedStart(1, 2), FeedStart(1, 4)])
def test_the_schedule_is_that_of_the_feed(make_workshop: Make, workers: int, start: FeedStart) -> None:
    """Every rank is due the same micro-batches as of the real feed, of the same shapes, from wherever training starts."""
    data, manifest = prepared(make_workshop())
    feed = replace(feed_of(data, manifest), workers=workers, train=PLAN, start=start)
    real = [schedule(batch) for batch in batches_of(feed)]
    for rank in range(workers):
        assert [schedule(batch) for batch in repeated_batches(feed, rank)] == real[rank::workers]


def test_one_batch_is_read_and_no_shard_after_it(make_workshop: Make) -> None:
    """With the shards deleted after the first batch the feed goes on to its end, with the same images."""
    data, manifest = prepared(make_workshop())
    batches = repeated_batches(replace(feed_of(data, manifest), workers=2, train=PLAN), 1)
    first = next(batches)
    for shard in (data / "shards").iterdir():
        shard.unlink()
    rest = list(batches)
    assert len(rest) == 19
    for batch in rest:
        assert np.array_equal(batch.images, first.images[np.arange(len(batch.images)) % len(first.images)])
        assert np.array_equal(batch.labels, first.labels[np.arange(len(batch.labels)) % len(first.labels)])


def damage_all_but_the_first_windows(data: Path, manifest: Manifest, rows: int) -> None:
    """Leave whole only the shards that the first `rows` training images lie in."""
    units, _ = epoch_order(replace(feed_of(data, manifest), window=2), 0).rows(0, rows)
    training = [shard.name for shard in manifest.shards if shard.split == "train"]
    needed = {training[unit] for unit in np.unique(units).tolist()}
    assert len(needed) < len(training)
    for shard in manifest.shards:
        if shard.name not in needed:
            (data / "shards" / shard.name).write_bytes(b"gone")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_ceiling_is_measured_without_reading_the_images(make_workshop: Make, in_process: bool, workers: int) -> None:
    """Where all shards but those of the first step are damaged, a real run fails and the ceiling is measured, on both engines."""
    workshop = make_workshop()
    damage_all_but_the_first_windows(*prepared(workshop), rows=16)
    chosen = f"train.workers={workers}"
    with pytest.raises(StorageError, match="damaged"):
        workshop.run(chosen, in_process=True, until="train")
    outcome, line = measure(workshop, chosen, in_process=in_process)

    assert outcome.report.status == "done"
    (epoch,) = [event for event in read_events(outcome.folder.events) if event["event"] == "EpochFinished"]
    assert epoch["images"] == 64
    assert epoch["validation_loss"] is not None
    assert line.endswith("images/s with images from memory; the job has not trained on its images yet")


def test_a_ceiling_is_a_run_of_its_own_without_a_model(make_workshop: Make) -> None:
    """The real run keeps every byte, and the ceiling's is marked in job, plan and report, has one epoch, no model, and is not evaluated."""
    workshop = make_workshop()
    real = workshop.run(in_process=True).folder
    before = {path: path.read_bytes() for path in real.path.rglob("*") if path.is_file()}
    outcome, line = measure(workshop, in_process=True)
    folder = outcome.folder

    assert {path: path.read_bytes() for path in real.path.rglob("*") if path.is_file()} == before
    assert f"{real.name} reached" in line
    assert folder.name.endswith("-synthetic")
    assert is_synthetic(folder)
    assert "synthetic" in folder.job.read_text().splitlines()[0]
    assert "synthetic" in folder.resolved_job.read_text().splitlines()[0]
    plan = json.loads(folder.plan.read_bytes())
    assert plan["synthetic"] is True
    assert plan["train"]["epochs"] == 1
    assert json.loads(folder.report_json.read_bytes())["synthetic"] is True
    assert not folder.model.exists()
    assert not folder.checkpoints.exists()
    assert not folder.metrics.exists()
    with pytest.raises(JobError, match="it has no model"):
        evaluate_run(folder, workshop.root, in_process=True, watch=lambda _: nullcontext(), announce=lambda _: None)


def test_a_measured_ceiling_is_not_measured_again(make_workshop: Make) -> None:
    """The same command finds the run done, and compares it with what the job has reached since."""
    workshop = make_workshop()
    first, before = measure(workshop, in_process=True)
    real = workshop.run(in_process=True, until="train").folder
    second, after = measure(workshop, in_process=True)
    assert second.reused
    assert second.folder == first.folder
    assert "has not trained" in before
    assert f"{real.name} reached" in after


def test_epochs_that_were_asked_for_are_trained(make_workshop: Make) -> None:
    """`train.epochs=2` on the command line trains two; the run of the job as its file says is found for comparison all the same."""
    workshop = make_workshop()
    real = workshop.run("train.epochs=3", in_process=True, until="train").folder
    workshop.job.write_text(workshop.job.read_text().replace("epochs: 2", "epochs: 3"))
    outcome, line = measure(workshop, "train.epochs=2", in_process=True)
    assert len(outcome.report.epochs) == 2
    assert f"{real.name} reached" in line


def test_a_ceiling_that_failed_is_resumed_as_one(make_workshop: Make) -> None:
    """resume trains it on its one batch, in its own folder, and goes no further than training."""
    workshop = make_workshop()
    data, manifest = prepared(workshop)
    kept = {path: path.read_bytes() for path in (data / "shards").iterdir()}
    for path in kept:
        path.write_bytes(b"gone")
    with pytest.raises(StorageError, match="damaged"):
        measure(workshop, in_process=True)
    for path, content in kept.items():
        path.write_bytes(content)
    damage_all_but_the_first_windows(data, manifest, rows=16)
    (folder,) = (RunFolder(path) for path in workshop.root.runs.glob("*-synthetic"))
    resume(folder.name, root=workshop.root.path, in_process=True)

    report = fold(folder)
    assert (report.status, report.synthetic, report.starts) == ("done", True, 2)
    assert [(stage.name, stage.state) for stage in report.stages] == [("prepare", "done"), ("train", "done"), ("evaluate", "waiting")]
    assert not folder.model.exists()
