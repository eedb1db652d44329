"""Which curves a report shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from orchestrator.reports.charts import Point, Series, line_chart
from orchestrator.reports.values import EpochReport, ProgressPoint, RunReport


@dataclass(frozen=True)
class Figure:
    """A drawing and the words above it."""

    title: str
    svg: str


def curve_figures(report: RunReport) -> tuple[Figure, ...]:
    """Only those with something to show."""
    epochs, points = report.epochs, report.points
    figures = (
        _by_epoch(
            "Loss by epoch", "loss", epochs, ("train", lambda epoch: epoch.train_loss), ("validation", lambda epoch: epoch.validation_loss)
        ),
        _by_epoch(
            "Accuracy by epoch",
            "accuracy, %",
            epochs,
            ("train", lambda epoch: _percent(epoch.train_accuracy)),
            ("validation", lambda epoch: _percent(epoch.validation_accuracy)),
        ),
        _by_step("Loss by step", "training loss", points, ("training loss", lambda point: point.loss)),
        _by_step("Learning rate", "learning rate", points, ("learning rate", lambda point: point.lr)),
        _by_step("Speed", "images per second", points, ("images per second", lambda point: point.images_per_s), from_zero=True),
        _by_step(
            "Time not spent computing",
            "share, %",
            points,
            ("waiting for images", lambda point: _percent(point.wait_share)),
            ("synchronising", lambda point: _percent(point.sync_share)),
            from_zero=True,
        ),
    )
    return tuple(figure for figure in figures if figure.svg)


def _by_epoch(title: str, y_label: str, epochs: Sequence[EpochReport], *lines: tuple[str, Callable[[EpochReport], float | None]]) -> Figure:
    series = [Series(name, _pairs((epoch.number, value(epoch)) for epoch in epochs)) for name, value in lines]
    return Figure(title, line_chart(title, series, x_label="epoch", y_label=y_label))


def _by_step(
    title: str,
    y_label: str,
    points: Sequence[ProgressPoint],
    *lines: tuple[str, Callable[[ProgressPoint], float | None]],
    from_zero: bool = False,
) -> Figure:
    series = [Series(name, _pairs((point.global_step, value(point)) for point in points)) for name, value in lines]
    return Figure(title, line_chart(title, series, x_label="step", y_label=y_label, from_zero=from_zero))


def _pairs(pairs: Iterable[tuple[int, float | None]]) -> tuple[Point, ...]:
    return tuple((float(x), y) for x, y in pairs if y is not None)


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value
