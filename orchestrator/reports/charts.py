"""Line charts as inline SVG: pure functions from numbers to text, no scripts, colours by CSS class.

A drawing is 380 x 230 units and is meant to be shown at about that many CSS pixels, so that its text stays readable.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 380, 230
LEFT, RIGHT, TOP, BOTTOM = 48, 14, 34, 38
MOST_POINTS = 240
"""More points than this are averaged in groups: the eye cannot tell them apart."""
MARKED_POINTS = 30
"""Up to this many points are marked one by one."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """One line."""

    name: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Axis:
    """A range, its ticks, and how a value on it is written."""

    low: float
    high: float
    ticks: tuple[float, ...]
    label: str

    def tick_text(self, value: float) -> str:
        step = self.ticks[1] - self.ticks[0] if len(self.ticks) > 1 else abs(value) or 1.0
        return short_number(value, step)


def line_chart(title: str, series: Sequence[Series], *, x_label: str, y_label: str, from_zero: bool = False) -> str:
    """An `<svg>` element; empty when there is no point to draw.

    Args:
        title: Read aloud by screen readers.
        series: The first two get colours of their own.
        x_label: What is counted to the right.
        y_label: What is measured, with its unit.
        from_zero: The y axis shows 0 however far away, so that heights can be compared.
    """
    drawn = [Series(line.name, thinned(line.points)) for line in series if line.points]
    if not drawn:
        return ""
    x_axis = make_axis([x for line in drawn for x, _ in line.points], x_label, tight=True)
    floor = [0.0] if from_zero else []
    y_axis = make_axis([y for line in drawn for _, y in line.points] + floor, y_label, tight=False)
    body = [_y_ticks(y_axis), _x_ticks(x_axis), _labels(x_axis, y_axis)]
    body += [_line(line, place, x_axis, y_axis) for place, line in enumerate(drawn)]
    body.append(_legend(drawn) if len(drawn) > 1 else "")
    return f'<svg class="chart" role="img" viewBox="0 0 {WIDTH} {HEIGHT}"><title>{escape(title)}</title>{"".join(body)}</svg>'


def thinned(points: Sequence[Point]) -> tuple[Point, ...]:
    """At most `MOST_POINTS` points: means of equal groups in x and y."""
    size = math.ceil(len(points) / MOST_POINTS)
    if size <= 1:
        return tuple(points)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return tuple((_mean([x for x, _ in group]), _mean([y for _, y in group])) for group in groups)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def make_axis(values: Sequence[float], label: str, *, tight: bool) -> Axis:
    """An axis that holds all values: a tight one ends with them and has whole ticks, a loose one ends at ticks and shows a near 0."""
    low, high = min(values), max(values)
    if not tight and 0 < low < 0.4 * high:
        low = 0.0
    if low == high:
        margin = abs(low) * 0.5 or 0.5
        low, high = low - margin, high + margin
    step = tick_step(high - low, whole=tight)
    if not tight:
        low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return Axis(low, high, tuple(place * step for place in range(first, last + 1)), label)


def tick_step(span: float, *, whole: bool) -> float:
    """1, 2 or 5 times a power of ten, giving three to six ticks."""
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= 5)  # noqa: PLR2004
    return max(1.0, step) if whole else step


def short_number(value: float, step: float) -> str:
    """As many digits as ticks `step` apart need: `short_number(12000, 2000)` is `"12k"`."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size and step >= size / 100:
            return f"{value / size:.{_decimals(step / size)}f}{letter}"
    return f"{value + 0.0:.{_decimals(step)}f}"


def _decimals(step: float) -> int:
    return max(0, -math.floor(math.log10(step) + 1e-9))


def _x(value: float, axis: Axis) -> float:
    return LEFT + (value - axis.low) / (axis.high - axis.low) * (WIDTH - LEFT - RIGHT)


def _y(value: float, axis: Axis) -> float:
    return HEIGHT - BOTTOM - (value - axis.low) / (axis.high - axis.low) * (HEIGHT - TOP - BOTTOM)


def _y_ticks(axis: Axis) -> str:
    return "".join(_y_tick(_y(tick, axis), axis.tick_text(tick)) for tick in axis.ticks)


def _y_tick(y: float, label: str) -> str:
    return (
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="tick" x="{LEFT - 7}" y="{y + 3.5:.1f}" text-anchor="end">{label}</text>'
    )


def _x_ticks(axis: Axis) -> str:
    bottom = HEIGHT - BOTTOM
    line = f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{bottom}" y2="{bottom}"/>'
    return line + "".join(_x_tick(_x(tick, axis), axis.tick_text(tick)) for tick in axis.ticks)


def _x_tick(x: float, label: str) -> str:
    bottom = HEIGHT - BOTTOM
    return (
        f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 4}"/>'
        f'<text class="tick" x="{x:.1f}" y="{bottom + 17}" text-anchor="middle">{label}</text>'
    )


def _labels(x_axis: Axis, y_axis: Axis) -> str:
    return (
        f'<text class="label" x="{WIDTH - RIGHT}" y="{HEIGHT - 5}" text-anchor="end">{escape(x_axis.label)}</text>'
        f'<text class="label" x="4" y="14">{escape(y_axis.label)}</text>'
    )


def _line(line: Series, place: int, x_axis: Axis, y_axis: Axis) -> str:
    spots = [(_x(x, x_axis), _y(y, y_axis)) for x, y in line.points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
    drawing = f'<polyline class="line series-{place}" points="{path}"/>'
    if len(spots) > MARKED_POINTS:
        return drawing
    return drawing + "".join(_mark(place, spot, _hint(line, point, x_axis)) for spot, point in zip(spots, line.points, strict=True))


def _mark(place: int, spot: Point, hint: str) -> str:
    return f'<circle class="mark series-{place}" cx="{spot[0]:.1f}" cy="{spot[1]:.1f}" r="2.8"><title>{escape(hint)}</title></circle>'


def _hint(line: Series, point: Point, x_axis: Axis) -> str:
    return f"{line.name}, {x_axis.label} {point[0]:g}: {point[1]:.4g}"


def _legend(drawn: Sequence[Series]) -> str:
    """Right-aligned above the plot; 6.2 units a letter is the width of the font with some air."""
    entries: list[str] = []
    right = float(WIDTH - RIGHT)
    for place, line in reversed(list(enumerate(drawn))):
        left = right - 6.2 * len(line.name) - 30
        entries.append(
            f'<line class="line series-{place}" x1="{left:.1f}" x2="{left + 18:.1f}" y1="10" y2="10"/>'
            f'<text class="label" x="{left + 23:.1f}" y="14">{escape(line.name)}</text>'
        )
        right = left
    return "".join(entries)
