"""Raising the epochs of a run: what is refused, and what a kill in between leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import JobError, StorageError
from orchestrator.launch.resume import continued_job
from orchestrator.launch.run import check_same_work, finished_stages, with_epochs
from orchestrator.record.folder import RunFolder
from orchestrator.record.journal import Journal, read_events
from orchestrator.record.lock import locked
from orchestrator.spec.job import resolved
from orchestrator.spec.load import load_job
from orchestrator.spec.yaml import dump_yaml

JOB = "name: shapes\ndata: {source: /images}\ntrain: {epochs: 5, lr: 0.2}\n"


@pytest.fixture
def finished(tmp_path: Path) -> RunFolder:
    """A run whose stages are done."""
    return write_finished(tmp_path / "run", JOB)


def write_finished(place: Path, text: str) -> RunFolder:
    folder = RunFolder(place)
    for path in (folder.weights, folder.metrics):
        path.parent.mkdir(parents=True)
        path.touch()
    folder.job.write_text(text)
    folder.resolved_job.write_text(dump_yaml(resolved(load_job(folder.job).job)))
    for stage in ("prepare", "train", "evaluate"):
        Journal(folder.events, f"{stage}-driver", stage).record("StageFinished")
    return folder


def test_more_epochs_make_training_and_evaluation_due_again(finished: RunFolder) -> None:
    """The resolved job has the new number and every other value of before, the record both numbers; what the user wrote stays."""
    assert continued_job(finished, None).job.train.epochs == 5
    assert finished_stages(finished) == {"prepare", "train", "evaluate"}
    raised = continued_job(finished, 8)

    assert raised.job == load_job(finished.resolved_job).job == with_epochs(load_job(finished.job).job, 8)
    assert finished.job.read_text() == JOB
    assert finished_stages(finished) == {"prepare"}
    (said,) = [event for event in read_events(finished.events) if event["event"] == "EpochsRaised"]
    assert (said["before"], said["after"]) == (5, 8)


@pytest.mark.parametrize("epochs", [1, 5])
def test_no_more_epochs_than_there_are_is_refused(finished: RunFolder, epochs: int) -> None:
    """One line with both numbers; the run stays finished."""
    with pytest.raises(JobError, match=rf"run has 5 epochs already; {epochs} is not more"):
        continued_job(finished, epochs)
    assert finished_stages(finished) == {"prepare", "train", "evaluate"}


def test_a_study_is_not_trained_on(tmp_path: Path) -> None:
    """Its trials have ended; the way out is a new run."""
    folder = write_finished(tmp_path / "study", JOB + "tune: {space: {train.lr: {loguniform: [0.01, 1.0]}}, trials: 2}\n")
    with pytest.raises(JobError, match="is a study"):
        continued_job(folder, 8)


def test_a_run_that_is_being_worked_on_is_left_alone(finished: RunFolder) -> None:
    """Nobody changes the job of a run under the process that trains it."""
    with locked(finished.path), pytest.raises(StorageError, match="is being worked on"):
        continued_job(finished, 8)
    assert continued_job(finished, None).job.train.epochs == 5


def test_killed_while_raising_it_can_be_raised_again(finished: RunFolder) -> None:
    """When only the record was written the job is still that of before, and the same command goes on."""
    Journal(finished.events, "run", "train").record("EpochsRaised", before=5, after=8)
    assert continued_job(finished, None).job.train.epochs == 5
    assert continued_job(finished, 8).job.train.epochs == 8


def test_the_job_of_before_leads_to_the_raised_run(finished: RunFolder) -> None:
    """Started with the job file again, the run is named with its epochs and the command that continues it; a real change is another run."""
    job = load_job(finished.job).job
    continued_job(finished, 8)
    with pytest.raises(JobError, match="the run of this job for 8 epochs, not 5") as raised:
        check_same_work(finished, job, "fingerprint")
    assert raised.value.next_step == "orchestrator resume run"
    with pytest.raises(JobError) as raised:
        check_same_work(finished, with_epochs(job, 9), "fingerprint")
    assert raised.value.next_step == "orchestrator resume run --epochs 9"
    with pytest.raises(JobError, match="is a run of another job"):
        check_same_work(finished, job.model_copy(update={"name": "other"}), "fingerprint")
