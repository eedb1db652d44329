"""report.html: one file that opens offline. Everything a run folder says is escaped; a policy in the page forbids the rest."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from orchestrator.reports.bottleneck import epoch_shares, name_limit
from orchestrator.reports.ceiling import SYNTHETIC_NOTE, training_speed
from orchestrator.reports.confusion import matrix_rows, top_confusions
from orchestrator.reports.figures import curve_figures
from orchestrator.reports.health import health_findings
from orchestrator.reports.mistakes import Mistake
from orchestrator.reports.values import RunReport
from orchestrator.units import format_count, format_duration

ABSENT = "\N{EN DASH}"
SMALL_STAGE = 0.02
"""A stage that took any time gets at least this share of the bar."""


@dataclass(frozen=True)
class Fact:
    """A number with its name."""

    name: str
    value: str


@dataclass(frozen=True)
class Picture:
    """A mistake as it is shown."""

    truth: str
    predicted: str
    probability: str
    path: str
    source: str
    """`data:` URI; empty when there is no picture."""


@dataclass(frozen=True)
class Segment:
    """A stage in the bar of stages."""

    name: str
    state: str
    duration: str
    reason: str
    weight: float


def report_html(report: RunReport, mistakes: Sequence[Mistake]) -> str:
    """The whole page."""
    script = asset("sort.js")
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            run_parts(report, mistakes),
            css=Markup(asset("report.css")),  # noqa: S704 -- a file of this package
            script=Markup(script),  # noqa: S704 -- a file of this package
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
    )


def run_parts(report: RunReport, mistakes: Sequence[Mistake]) -> dict[str, Any]:
    """What the template of a run shows."""
    metrics = report.metrics
    return {
        "report": report,
        "status": report.status,
        "limit": name_limit(report),
        "note": SYNTHETIC_NOTE if report.synthetic else "",
        "headline": headline(report),
        "facts": headline_facts(report),
        "segments": segments(report),
        "shares": epoch_shares(report.epochs),
        "figures": [(figure.title, Markup(figure.svg)) for figure in curve_figures(report)],  # noqa: S704 -- charts.py escapes
        "data_facts": data_facts(report),
        "health_facts": health_facts(report),
        "findings": health_findings(report.health) if report.health else (),
        "training_facts": training_facts(report),
        "study_facts": study_facts(report),
        "study_keys": tuple(dict.fromkeys(key for trial in report.study.trials for key in trial.parameters)) if report.study else (),
        "matrix": matrix_rows(metrics) if metrics else (),
        "confusions": top_confusions(metrics) if metrics else (),
        "per_class": sorted(metrics.per_class, key=lambda entry: -1.0 if entry.f1 is None else entry.f1) if metrics else (),
        "pictures": [_picture(mistake, report) for mistake in mistakes],
    }


@cache
def environment() -> Environment:
    """Everything is escaped, and a name that a template does not know is an error."""
    environment = Environment(
        loader=PackageLoader("orchestrator.reports"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(duration=format_duration, percent=percent, decimal=decimal, moment=moment)
    return environment


@cache
def asset(name: str) -> str:
    """A style sheet or script of this room."""
    return files("orchestrator.reports").joinpath("templates", name).read_text("utf-8")


def percent(share: float | None, digits: int = 1) -> str:
    return ABSENT if share is None else f"{share:.{digits}%}"


def decimal(value: float | None, digits: int = 3) -> str:
    return ABSENT if value is None else f"{value:.{digits}f}"


def moment(seconds: float | None) -> str:
    """In UTC, because the reader may sit elsewhere."""
    return ABSENT if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def headline(report: RunReport) -> Fact:
    """The one number: the accuracy of the evaluation, or the best so far; of a synthetic run the speed."""
    if report.synthetic:
        speed = training_speed(report)
        return Fact("images per second, from memory", ABSENT if speed is None else f"{speed:,.0f}")
    if report.metrics:
        return Fact(f"{report.metrics.split} accuracy, {format_count(report.metrics.rows, 'image')}", percent(report.metrics.accuracy, 2))
    if report.study and report.study.after is not None:
        return Fact(f"{report.study.split} accuracy of the best trial", percent(report.study.after, 2))
    best = report.training.best_validation_accuracy
    if best is not None:
        return Fact(f"best validation accuracy so far, epoch {report.training.best_epoch}", percent(best, 2))
    return Fact("accuracy, not measured yet", ABSENT)


def headline_facts(report: RunReport) -> tuple[Fact, ...]:
    """What stands beside the headline."""
    facts = [Fact("time at work", format_duration(report.seconds))]
    metrics = report.metrics
    if metrics:
        facts += [Fact("top-5 accuracy", percent(metrics.top5))] if metrics.top5 is not None else []
        facts += [
            Fact("macro F1", decimal(metrics.macro_f1)),
            Fact("balanced accuracy", percent(metrics.balanced_accuracy)),
            Fact("loss", decimal(metrics.loss)),
            Fact("calibration error", decimal(metrics.ece)),
        ]
    return tuple(facts)


def segments(report: RunReport) -> tuple[Segment, ...]:
    """The stages with their share of the bar."""
    total = sum(stage.seconds for stage in report.stages) or 1.0
    return tuple(
        Segment(
            stage.name,
            stage.state,
            format_duration(stage.seconds) if stage.seconds else ABSENT,
            stage.reason,
            max(SMALL_STAGE, stage.seconds / total) if stage.seconds else 0.0,
        )
        for stage in report.stages
    )


def data_facts(report: RunReport) -> tuple[Fact, ...]:
    data = report.data
    if data is None:
        return ()
    facts = [Fact("images", f"{data.rows:,}"), Fact("rejected", f"{data.rejects:,}")]
    facts += [Fact("classes", f"{len(report.classes):,}")] if report.classes else []
    if not data.fingerprint and data.units is not None:
        facts.append(Fact("units prepared", f"{data.units_done} of {data.units}"))
    if data.images_per_s is not None:
        facts.append(Fact("images per second", f"{data.images_per_s:,.0f}"))
    if data.fingerprint:
        facts.append(Fact("reused" if data.reused else "fingerprint", data.fingerprint[:12]))
    return tuple(facts)


def health_facts(report: RunReport) -> tuple[Fact, ...]:
    health = report.health
    if health is None:
        return ()
    sides = " / ".join(f"{value:,.0f}" for value in health.short_side[::2])
    return (
        Fact("short side of the sources, least / median / most", f"{sides} px"),
        Fact("aspect, median / most", " / ".join(f"{value:.2f}" for value in health.aspect[2::2])),
        Fact("same file twice", format_count(health.same_file.pairs, "pair")),
        Fact("look alike", format_count(health.look_alike.pairs, "pair") if health.compared else "not compared: too many images"),
        Fact("in more than one split", format_count(health.same_file.leaks + health.look_alike.leaks, "pair")),
        Fact("in more than one class", format_count(health.same_file.label_conflicts + health.look_alike.label_conflicts, "pair")),
    )


def training_facts(report: RunReport) -> tuple[Fact, ...]:
    training = report.training
    speeds = [epoch.images_per_s for epoch in report.epochs if epoch.images_per_s is not None]
    known = (
        (
            "epochs",
            f"{len(report.epochs)} of {training.planned_epochs}" if training.planned_epochs else f"{len(report.epochs)}",
            bool(report.epochs),
        ),
        ("best epoch", f"{training.best_epoch}", training.best_epoch is not None),
        ("images per second", f"{speeds[-1]:,.0f}" if speeds else "", bool(speeds)),
        ("workers", f"{training.workers} ({training.device})", training.workers is not None),
        ("parameters", f"{training.parameters:,}" if training.parameters else "", bool(training.parameters)),
        ("checkpoints", f"{training.checkpoints}", training.checkpoints > 0),
        ("weights verified equal", format_count(training.weights_verified, "time"), training.weights_verified > 0),
        ("worker group starts", f"{training.attempts}", training.attempts > 1),
        ("hung workers", f"{training.hung_workers}", training.hung_workers > 0),
        ("steps left out, not finite", f"{training.skipped_steps}", training.skipped_steps > 0),
        ("run starts", f"{report.starts}", report.starts > 1),
    )
    return tuple(Fact(name, value) for name, value, is_known in known if is_known)


def study_facts(report: RunReport) -> tuple[Fact, ...]:
    study = report.study
    if study is None:
        return ()
    facts = [Fact("trials", f"{len(study.trials)} of {study.planned}"), Fact("cut short", f"{study.count('stopped')}")]
    facts += [Fact("failed", f"{study.count('failed')}")] if study.count("failed") else []
    if study.after is not None:
        facts += [
            Fact(f"{study.split} accuracy, own parameters", percent(study.before, 2)),
            Fact(f"{study.split} accuracy, best trial", percent(study.after, 2)),
        ]
    if study.original_images_read is not None:
        facts.append(Fact("original images read by trials", f"{study.original_images_read:,}"))
    return tuple(facts)


def _picture(mistake: Mistake, report: RunReport) -> Picture:
    return Picture(
        truth=_class_name(mistake.label, report),
        predicted=_class_name(mistake.predicted, report),
        probability=percent(mistake.probability, 0),
        path=mistake.path,
        source=f"data:image/png;base64,{base64.b64encode(mistake.png).decode()}" if mistake.png else "",
    )


def _class_name(label: int, report: RunReport) -> str:
    names = report.classes or tuple(entry.name for entry in (report.metrics.per_class if report.metrics else ()))
    return names[label] if 0 <= label < len(names) else f"class {label}"
