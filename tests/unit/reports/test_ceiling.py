"""The ceiling of a job stands beside what the job reached, and nobody takes a synthetic run for a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from orchestrator.record.folder import RunFolder
from orchestrator.record.journal import Journal
from orchestrator.reports.ceiling import SYNTHETIC_NOTE, ceiling_line, training_speed
from orchestrator.reports.fold import fold
from orchestrator.reports.html import report_html
from orchestrator.reports.summary import report_json
from orchestrator.reports.text import report_text
from orchestrator.reports.values import RunReport

MakeRun = Callable[..., RunFolder]


def at_speed(report: RunReport, *speeds: float) -> RunReport:
    return replace(report, epochs=tuple(replace(report.epochs[0], images_per_s=speed) for speed in speeds))


def test_the_ceiling_stands_beside_what_the_job_reached(make_run: MakeRun) -> None:
    """One line: both speeds, the run that was compared, and the share; or that there is no such run."""
    report = fold(make_run())
    ceiling = at_speed(report, 2000.0)
    assert ceiling_line(ceiling, at_speed(report, 500.0)) == (
        "2,000 images/s with images from memory; fashion-mnist-7f3a reached 500 with its own (25%)"
    )
    for missing in (None, at_speed(report)):
        assert ceiling_line(ceiling, missing) == "2,000 images/s with images from memory; the job has not trained on its images yet"
    assert ceiling_line(at_speed(report), None) == "not measured: no epoch was finished"


def test_other_hardware_is_told(make_run: MakeRun) -> None:
    """Two runs on different numbers of workers are not compared without saying so."""
    report = at_speed(fold(make_run()), 500.0)
    other = replace(report, training=replace(report.training, workers=1, device="cuda"))
    assert ceiling_line(other, report).endswith("with 2 workers (cpu) instead of 1 worker (cuda)")


def test_the_first_epoch_does_not_speak_for_the_speed(make_run: MakeRun) -> None:
    """It holds the start of the workers; the median of the others counts, where there are any."""
    report = fold(make_run())
    assert training_speed(at_speed(report, 1.0, 100.0, 300.0)) == 200.0
    assert training_speed(at_speed(report, 1.0, 100.0)) == 100.0
    assert training_speed(at_speed(report, 50.0)) == 50.0


def test_an_epoch_resumed_after_its_last_step_does_not_count(make_run: MakeRun) -> None:
    """It trained no image, and would pull the median down."""
    assert training_speed(at_speed(fold(make_run()), 0.0, 100.0)) == 100.0


def test_a_synthetic_run_says_what_it_is_and_no_accuracy(tmp_path: Path, make_run: MakeRun) -> None:
    """In the short form, on the page and for programs."""
    folder = make_run(until="train")
    Journal(folder.events, "run-again", "run").record("RunContinued", run=folder.name, job="fashion-mnist", feed="synthetic")
    report = fold(folder)
    assert report.training.best_validation_accuracy is None
    assert SYNTHETIC_NOTE in report_text(report)
    assert "best validation accuracy" not in report_text(report)
    page = report_html(report, ())
    assert SYNTHETIC_NOTE in page
    assert "images per second, from memory" in page
    assert report_json(report)["synthetic"] is True
    assert report_json(report)["training"]["best_validation_accuracy"] is None


def test_a_real_run_is_none(make_run: MakeRun) -> None:
    """Nothing is said of synthetic images where there are none."""
    report = fold(make_run())
    assert not report.synthetic
    assert "synthetic" not in report_text(report) + report_html(report, ())
