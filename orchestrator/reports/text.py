"""The short form of a report, for the terminal."""

from __future__ import annotations

from orchestrator.reports.bottleneck import name_limit
from orchestrator.reports.ceiling import SYNTHETIC_NOTE
from orchestrator.reports.fields import visible
from orchestrator.reports.health import health_findings
from orchestrator.reports.values import MetricsReport, RunReport, StageReport, StudyReport
from orchestrator.units import format_count, format_duration

WIDTH = 9


def report_text(report: RunReport) -> str:
    """A few plain lines without colours or control characters."""
    lines = [f"{visible(report.run)}  {report.status}, {format_duration(report.seconds)} at work"]
    lines += [_line(stage.name, _stage_text(stage, report)) for stage in report.stages if stage.state != "waiting"]
    lines += [_line("feed", SYNTHETIC_NOTE)] if report.synthetic else []
    if report.health and (findings := health_findings(report.health)):
        lines.append(_line("look at", "; ".join(findings)))
    if report.metrics:
        lines.append(_line("result", _metrics_text(report.metrics)))
    if report.study:
        lines += _study_lines(report.study)
    lines.append(_line("limit", name_limit(report)))
    if report.error:
        lines.append(_line("error", visible(report.error.message)))
        lines += [_line("next", visible(report.error.next_step))] if report.error.next_step else []
    lines += [_line("problem", visible(problem)) for problem in report.problems]
    return "\n".join(lines)


def _line(name: str, value: str) -> str:
    return f"  {name:<{WIDTH}} {value}"


def _stage_text(stage: StageReport, report: RunReport) -> str:
    facts = {"prepare": _data_text, "train": _training_text}.get(stage.name)
    parts = [f"{stage.state:<8} {format_duration(stage.seconds)}", visible(stage.reason), facts(report) if facts else ""]
    return "  ".join(part for part in parts if part)


def _data_text(report: RunReport) -> str:
    if report.data is None:
        return ""
    rejects = f", {format_count(report.data.rejects, 'rejected', 'rejected')}" if report.data.rejects else ""
    return f"{format_count(report.data.rows, 'image')}{rejects}{', reused' if report.data.reused else ''}"


def _training_text(report: RunReport) -> str:
    if not report.epochs:
        return ""
    planned = f" of {report.training.planned_epochs}" if report.training.planned_epochs else ""
    best = report.training.best_validation_accuracy
    accuracy = "" if best is None else f", best validation accuracy {best:.2%} (epoch {report.training.best_epoch})"
    skipped = report.training.skipped_steps
    left_out = f", {format_count(skipped, 'step')} left out (not finite)" if skipped else ""
    return f"epoch {report.epochs[-1].number}{planned}{accuracy}{left_out}"


def _study_lines(study: StudyReport) -> list[str]:
    cut, failed = study.count("stopped"), study.count("failed")
    kinds = [f"{cut} cut short" if cut else "", f"{failed} failed" if failed else ""]
    lines = [_line("trials", ", ".join([f"{len(study.trials)} of {study.planned}", *(kind for kind in kinds if kind)]))]
    best = next((trial for trial in study.trials if trial.number == study.best), None)
    if best is not None and best.value is not None:
        changed = ", ".join(f"{visible(key)}={visible(value)}" for key, value in best.parameters.items())
        lines.append(_line("best", f"trial {best.number}: {changed} (validation {visible(study.metric)} {best.value:.4f})"))
    if study.after is not None:
        before = "no result" if study.before is None else f"{study.before:.2%}"
        own, found = f"{before} with the job's own parameters", f"{study.after:.2%} with the best trial's"
        better = "these were the best" if study.best == 0 else found
        lines.append(_line("tuned", f"{visible(study.split)} accuracy {own}, {better}"))
    return lines


def _metrics_text(metrics: MetricsReport) -> str:
    extra = [
        f"{name} {value:.{digits}f}"
        for name, value, digits in (("loss", metrics.loss, 3), ("macro F1", metrics.macro_f1, 3))
        if value is not None
    ]
    return f"{visible(metrics.split)} accuracy {metrics.accuracy:.2%} on {format_count(metrics.rows, 'image')}" + (
        f" ({', '.join(extra)})" if extra else ""
    )
