"""A run folder becomes the same values however the run went."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.record.folder import RunFolder
from orchestrator.record.journal import Journal
from orchestrator.reports.fold import fold

MakeRun = Callable[..., RunFolder]


def test_a_finished_run_is_folded_with_everything_it_wrote(make_run: MakeRun) -> None:
    """Status, stages, data, curves, metrics and decisions of a finished run are all there."""
    report = fold(make_run())
    assert (report.run, report.job, report.status, report.starts) == ("fashion-mnist-7f3a", "fashion-mnist", "done", 1)
    assert [(stage.name, stage.state, stage.seconds) for stage in report.stages] == [
        ("prepare", "done", 14.1),
        ("train", "done", 140.2),
        ("evaluate", "done", 4.5),
    ]
    assert report.data is not None
    assert (report.data.rows, report.data.rejects, report.data.reject_reasons) == (69_988, 12, {"truncated": 9, "not-an-image": 3})
    assert [epoch.number for epoch in report.epochs] == [1, 2, 3, 4, 5]
    assert (report.training.best_epoch, report.training.planned_epochs, report.training.weights_verified) == (5, 5, 5)
    assert report.metrics is not None
    assert report.metrics.rows == 10_000
    assert report.decisions[0].value == "2"
    assert "lr: 0.1" in report.resolved_job
    assert report.error is None
    assert report.problems == ()


def test_the_error_of_a_failed_run_is_kept_with_its_next_step(make_run: MakeRun) -> None:
    """A run that failed says why and what to do, and the stage it failed in is marked."""
    report = fold(make_run(until="train", ending="RunFailed", epochs=2))
    assert report.status == "failed"
    assert report.error is not None
    assert (report.error.message, report.error.next_step) == ("loss is not finite at step 113", "lower train.lr")
    assert [stage.state for stage in report.stages] == ["done", "failed", "waiting"]


def test_an_interrupted_run_has_no_error(make_run: MakeRun) -> None:
    """Interrupting is no failure."""
    report = fold(make_run(until="train", ending="RunInterrupted", epochs=2))
    assert (report.status, report.error) == ("interrupted", None)
    assert report.stage("train").state == "interrupted"


def test_a_run_without_an_end_is_running(make_run: MakeRun) -> None:
    """What has begun and not ended is running, with the epochs it has."""
    report = fold(make_run(until="train", ending=None, epochs=2))
    assert (report.status, report.stage("train").state, len(report.epochs)) == ("running", "running", 2)
    assert report.metrics is None


def test_a_folder_in_which_nothing_happened_yet_can_be_folded(tmp_path: Path) -> None:
    """A report can be made before the first event."""
    report = fold(RunFolder(tmp_path / "new"))
    assert (report.status, report.starts, report.data, report.epochs) == ("running", 0, None, ())


def test_a_continued_run_is_running_again_and_keeps_finished_stages(make_run: MakeRun) -> None:
    """The last start decides the status; a stage that was done stays done when it is skipped."""
    folder = make_run(until="train", ending="RunFailed", epochs=2)
    Journal(folder.events, "run", "run").record("RunContinued", run=folder.name, job="fashion-mnist", version="0.1.0", command="again")
    Journal(folder.events, "prepare-driver", "prepare").record("StageSkipped", reason="prepared before")
    report = fold(folder)
    assert (report.status, report.error, report.starts, report.command) == ("running", None, 2, "again")
    assert report.stage("prepare").state == "done"


def test_replayed_steps_and_epochs_count_once(make_run: MakeRun) -> None:
    """After a resume from step 40 the abandoned way beyond it is gone and the new one counts."""
    folder = make_run(until="train", ending="RunFailed", epochs=2)
    worker = Journal(folder.events, "train-0", "train")
    worker.record("TrainingStarted", parameters=78_042, workers=1, device="cpu", resumed_from_step=40)
    report = fold(folder)
    assert [epoch.number for epoch in report.epochs] == [1]
    assert max(point.global_step for point in report.points) == 40
    worker.record("Progress", epoch=1, step=1, steps_per_epoch=40, global_step=41, total_steps=80, loss=0.5)
    worker.record("Progress", epoch=1, step=1, steps_per_epoch=40, global_step=41, total_steps=80, loss=0.25)
    worker.record("EpochFinished", epoch=1, train_loss=0.125, validation_accuracy=None)
    report = fold(folder)
    assert [point.loss for point in report.points if point.global_step == 41] == [0.25]
    assert [(epoch.number, epoch.train_loss, epoch.validation_accuracy) for epoch in report.epochs][1:] == [(2, 0.125, None)]


def test_steps_that_were_left_out_count_once(make_run: MakeRun) -> None:
    """Of a way that was abandoned they are gone, and a step that is left out again is one step; hung workers are events of their own."""
    folder = make_run(until="train", ending="RunFailed", epochs=2)
    worker = Journal(folder.events, "train-0", "train")
    worker.record("StepSkipped", epoch=0, step=7, global_step=7, reason="the loss is not finite on rank 1")
    worker.record("StepSkipped", epoch=1, step=3, global_step=43, reason="the gradients are not finite")
    Journal(folder.events, "train-driver", "train").record("WorkerHung", rank=1, seconds=61.0, doing="compute", at="", stacks="")
    worker.record("TrainingStarted", parameters=78_042, workers=1, device="cpu", resumed_from_step=40)
    assert fold(folder).training.skipped_steps == 1
    for _ in range(2):
        worker.record("StepSkipped", epoch=1, step=5, global_step=45, reason="the gradients are not finite")
    assert (fold(folder).training.skipped_steps, fold(folder).training.hung_workers) == (2, 1)


def test_a_best_model_that_is_gone_is_not_the_best(make_run: MakeRun) -> None:
    """Only epochs count whose models may have been kept since then; none yet, then the next one, however good the one before was."""
    folder = make_run(until="train", ending="RunFailed", epochs=2)
    before = fold(folder).training
    assert before.best_epoch is not None
    worker = Journal(folder.events, "train-0", "train")
    worker.record("BestModelLost", epoch=before.best_epoch - 1, counted_from=2)
    assert (fold(folder).training.best_epoch, fold(folder).training.best_validation_accuracy) == (None, None)
    worker.record("EpochFinished", epoch=2, train_loss=0.5, validation_accuracy=0.01)
    assert (fold(folder).training.best_epoch, fold(folder).training.best_validation_accuracy) == (3, 0.01)


def test_a_torn_last_line_is_left_out(make_run: MakeRun) -> None:
    """A writer killed inside a line costs that line and nothing else."""
    folder = make_run(until="train", ending=None, epochs=1)
    with (folder.events / "train-0.jsonl").open("ab") as file:
        file.write(b'{"time": 1790000000.0, "event": "EpochFini')
    assert len(fold(folder).epochs) == 1


def test_prepare_is_reported_while_it_is_under_way(tmp_path: Path) -> None:
    """Before the commit the units that are done are counted."""
    folder = RunFolder(tmp_path / "run")
    journal = Journal(folder.events, "prepare-driver", "prepare")
    journal.record("StageStarted")
    for unit in (0, 1, 1):
        journal.record("UnitPrepared", unit=unit, rows=10, rejects=1, done=unit + 1, units=5, images_per_s=100.0)
    data = fold(folder).data
    assert data is not None
    assert (data.rows, data.rejects, data.units_done, data.units, data.fingerprint) == (20, 2, 2, 5, "")


@pytest.mark.parametrize("content", [b"{", b"[1, 2]", b'{"rows": 3}', b'{"rows": "x", "accuracy": 1}', b"\xff"])
def test_a_damaged_file_is_named_and_the_rest_stands(make_run: MakeRun, content: bytes) -> None:
    """Metrics that cannot be read become a problem of the report, not the end of it."""
    folder = make_run()
    folder.metrics.write_bytes(content)
    report = fold(folder)
    assert report.metrics is None
    assert len(report.problems) == 1
    assert "metrics.json" in report.problems[0]
    assert len(report.epochs) == 5
