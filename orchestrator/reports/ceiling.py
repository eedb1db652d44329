"""How fast a job could train if its images cost nothing, beside how fast it did train."""

from __future__ import annotations

from statistics import median

from orchestrator.reports.fields import visible
from orchestrator.reports.values import RunReport
from orchestrator.units import format_count

SYNTHETIC_NOTE = "synthetic: every step took one batch from memory; this run measures speed, its accuracy means nothing and it has no model"


def training_speed(report: RunReport) -> float | None:
    """Images per second over whole epochs, validation included: the median of all but the first, if there are others.

    The first holds the start of the workers and of the feed; an epoch that was resumed after its last step has no images.
    """
    speeds = [epoch.images_per_s for epoch in report.epochs if epoch.images_per_s]
    return median(speeds[1:] or speeds) if speeds else None


def ceiling_line(ceiling: RunReport, real: RunReport | None) -> str:
    """One line; `real` is the run of the same job on its images, where there is one."""
    best = training_speed(ceiling)
    if best is None:
        return "not measured: no epoch was finished"
    found = f"{best:,.0f} images/s with images from memory"
    reached = training_speed(real) if real else None
    if real is None or reached is None:
        return f"{found}; the job has not trained on its images yet"
    workers = f", with {_workers(real)} instead of {_workers(ceiling)}" if _workers(real) != _workers(ceiling) else ""
    return f"{found}; {visible(real.run)} reached {reached:,.0f} with its own ({reached / best:.0%}){workers}"


def _workers(report: RunReport) -> str:
    return f"{format_count(report.training.workers or 0, 'worker')} ({visible(report.training.device)})"
