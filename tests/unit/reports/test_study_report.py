"""What the report says of a study, while it runs and when it is finished."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.durable import write_atomically
from orchestrator.record.folder import RunFolder
from orchestrator.record.journal import Journal
from orchestrator.reports.bottleneck import name_limit
from orchestrator.reports.fold import fold
from orchestrator.reports.html import report_html
from orchestrator.reports.text import report_text

ATTACK = "<script>alert(1)</script>"


def begin(folder: RunFolder) -> Journal:
    """A study of three trials, of which two have begun."""
    write_atomically(folder.job, b"name: shapes\n")
    Journal(folder.events, "run", "run").record("RunStarted", run=folder.name, job="shapes", version="0.1.0", command="", until="tune")
    journal = Journal(folder.events, "tune-driver", "tune")
    journal.record("StageStarted")
    journal.record("StudyStarted", metric="accuracy", trials=3)
    for number, rate in enumerate((0.1, 0.25)):
        journal.record("TrialStarted", number=number, trials=3, parameters={"train.lr": rate, ATTACK: ATTACK})
    journal.record("TrialReported", number=1, epoch=2, value=0.75, metric="accuracy")
    return journal


def end(folder: RunFolder, journal: Journal) -> None:
    trials = [
        {"number": 0, "parameters": {"train.lr": 0.1}, "state": "finished", "epochs": 3, "value": 0.7, "seconds": 10.0, "error": ""},
        {"number": 1, "parameters": {"train.lr": 0.25}, "state": "finished", "epochs": 3, "value": 0.8, "seconds": 11.0, "error": ""},
        {"number": 2, "parameters": {"train.lr": 9.0}, "state": "failed", "epochs": 0, "value": None, "seconds": 1.0, "error": ATTACK},
    ]
    journal.record(
        "StudyFinished",
        best=1,
        parameters={"train.lr": 0.25},
        metric="accuracy",
        split="test",
        before={"accuracy": 0.61, "loss": 1.0},
        after={"accuracy": 0.72, "loss": 0.8},
        original_images_read=0,
        trials=trials,
    )
    journal.record("StageFinished", seconds=60.0)
    Journal(folder.events, "run", "run").record("RunFinished", seconds=61.0)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "runs" / "shapes-1")


def test_a_running_study_shows_its_trials_as_they_come(folder: RunFolder) -> None:
    """Begun trials with their parameters and last value; nothing is promised of the best one yet."""
    begin(folder)
    study = fold(folder).study

    assert study is not None
    assert [(trial.number, trial.state, trial.epochs, trial.value) for trial in study.trials] == [
        (0, "running", 0, None),
        (1, "running", 2, 0.75),
    ]
    assert (study.planned, study.best, study.before, study.after) == (3, None, None, None)


def test_a_finished_study_says_before_and_after(folder: RunFolder) -> None:
    """On the terminal and on the page: the best trial, what it changed on unseen images, and which trials failed."""
    end(folder, begin(folder))
    report = fold(folder)
    text, page = report_text(report), report_html(report, ())

    assert "trials    3 of 3, 1 failed" in text
    assert "best      trial 1: train.lr=0.25 (validation accuracy 0.8000)" in text
    assert "tuned     test accuracy 61.00% with the job's own parameters, 72.00% with the best trial's" in text
    assert "72.00%" in page
    assert '<tr class="best">' in page
    assert "original images read by trials" in page


def test_what_limits_a_study_is_the_study(folder: RunFolder) -> None:
    """The sentence names the knobs that shorten it."""
    end(folder, begin(folder))

    assert name_limit(fold(folder)).startswith("The study took 100% of this run; more CPUs or GPUs let more trials run at once")


def test_parameters_and_errors_of_trials_are_escaped(folder: RunFolder) -> None:
    """While it runs and when it is finished."""
    journal = begin(folder)
    assert ATTACK not in report_html(fold(folder), ())
    end(folder, journal)
    assert ATTACK not in report_html(fold(folder), ())
