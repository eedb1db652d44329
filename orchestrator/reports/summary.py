"""report.json and report.html: written from the run folder, rebuilt at any time."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from orchestrator.durable import write_atomically, write_json
from orchestrator.record.folder import RunFolder
from orchestrator.reports.bottleneck import epoch_shares, name_limit
from orchestrator.reports.fold import fold
from orchestrator.reports.html import report_html
from orchestrator.reports.mistakes import Mistake, read_mistakes
from orchestrator.reports.values import RunReport

LONG_METRICS = ("per_class", "confusion")
"""Left to `evaluation/metrics.json`."""


def report_json(report: RunReport) -> dict[str, Any]:
    """The report as other programs read it; what is not known is `null`."""
    metrics = asdict(report.metrics) if report.metrics else {}
    return {
        "run": report.run,
        "job": report.job,
        "synthetic": report.synthetic,
        "status": report.status,
        "seconds": round(report.seconds, 3),
        "stages": {stage.name: {"state": stage.state, "seconds": round(stage.seconds, 3)} for stage in report.stages},
        "data": asdict(report.data) if report.data else None,
        "health": health_json(report),
        "training": {
            "epochs": len(report.epochs),
            "planned_epochs": report.training.planned_epochs,
            "best_epoch": report.training.best_epoch,
            "best_validation_accuracy": report.training.best_validation_accuracy,
            "skipped_steps": report.training.skipped_steps,
            "images_per_s": report.epochs[-1].images_per_s if report.epochs else None,
            "time": asdict(shares) if (shares := epoch_shares(report.epochs)) else None,
        },
        "metrics": {name: value for name, value in metrics.items() if name not in LONG_METRICS},
        "study": asdict(report.study) if report.study else None,
        "limit": name_limit(report),
        "error": asdict(report.error) if report.error else None,
        "problems": list(report.problems),
    }


def health_json(report: RunReport) -> dict[str, Any] | None:
    """The numbers; the pairs are left to `health.json`."""
    if report.health is None:
        return None
    whole = asdict(report.health)
    return {name: whole[name] for name in ("classes", "short_side", "aspect", "kinds", "misnamed", "same_file", "look_alike")}


def write_report(folder: RunFolder) -> RunReport:
    """Fold the run and write both reports, each whole or not at all.

    Raises:
        StorageError: The storage is full or does not take the files.
    """
    report, mistakes = with_mistakes(fold(folder), folder)
    write_json(folder.report_json, report_json(report))
    write_atomically(folder.report_html, report_html(report, mistakes).encode())
    return report


def with_mistakes(report: RunReport, folder: RunFolder) -> tuple[RunReport, tuple[Mistake, ...]]:
    """The report and the mistakes with their pictures; a damaged file of them becomes one of the report's problems."""
    try:
        return report, read_mistakes(folder)
    except ValueError as error:
        return replace(report, problems=(*report.problems, str(error))), ()
