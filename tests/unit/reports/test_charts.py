"""Curves become drawings that a browser understands and a person can read."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestrator.reports.charts import HEIGHT, MOST_POINTS, WIDTH, Series, line_chart, make_axis, short_number, thinned

POINTS = st.lists(
    st.tuples(st.integers(0, 10_000).map(float), st.floats(-1e9, 1e9).map(lambda value: round(value, 6))), min_size=1, max_size=40
)


def draw(*series: Series) -> ET.Element:
    return ET.fromstring(line_chart("title", series, x_label="step", y_label="loss"))  # noqa: S314 -- our own text


@settings(max_examples=60)
@given(POINTS)
@example([(0.0, 0.0)])
@example([(3.0, -2.5), (3.0, -2.5)])
@example([(0.0, 1e-9), (1.0, 2e-9)])
def test_any_curve_is_well_formed_and_stays_inside_the_drawing(points: list[tuple[float, float]]) -> None:
    """XML that parses, and no coordinate outside the frame."""
    root = draw(Series("train", tuple(points)))
    polyline = root.find("polyline")
    assert polyline is not None
    places = [tuple(map(float, pair.split(","))) for pair in polyline.attrib["points"].split()]
    assert len(places) == len(points)
    assert all(-0.1 <= x <= WIDTH + 0.1 and -0.1 <= y <= HEIGHT + 0.1 for x, y in places)


def test_names_are_escaped() -> None:
    """A series may be called anything."""
    root = draw(Series("<script>&", ((0.0, 1.0),)), Series('"', ((0.0, 2.0),)))
    assert root.find("script") is None
    assert "<script>&" in [text.text for text in root.iter("text")]


def test_two_series_have_a_legend_and_one_has_none() -> None:
    """A legend of one entry would only repeat the label of the axis."""
    one, two = Series("train", ((0.0, 1.0), (1.0, 2.0))), Series("validation", ((0.0, 3.0), (1.0, 4.0)))
    assert {"train", "validation"} <= {text.text for text in draw(one, two).iter("text")}
    assert "train" not in {text.text for text in draw(one).iter("text")}


def test_nothing_to_draw_is_no_drawing() -> None:
    """No empty axes."""
    assert line_chart("title", [Series("train", ())], x_label="step", y_label="loss") == ""


def test_a_curve_begins_left_at_its_lowest_step_and_loss_falls_downwards() -> None:
    """Larger y is higher up on the screen."""
    polyline = draw(Series("train", ((0.0, 2.0), (10.0, 1.0)))).find("polyline")
    assert polyline is not None
    (x0, y0), (x1, y1) = (tuple(map(float, pair.split(","))) for pair in polyline.attrib["points"].split())
    assert x0 < x1
    assert y0 < y1


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.0, 1.0, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (0.0, 14_000.0, ["0", "5k", "10k", "15k"]),
        (61.0, 90.5, ["60", "70", "80", "90", "100"]),
    ],
)
def test_ticks_are_round_numbers_around_the_values(low: float, high: float, ticks: list[str]) -> None:
    """Steps of 1, 2 or 5, from below the lowest to above the highest value."""
    axis = make_axis([low, high], "loss", tight=False)
    assert [axis.tick_text(tick) for tick in axis.ticks] == ticks


def test_epochs_have_whole_ticks() -> None:
    """There is no epoch 1.5."""
    assert make_axis([1.0, 3.0], "epoch", tight=True).ticks == (1.0, 2.0, 3.0)


def test_an_axis_from_zero_shows_zero_however_far() -> None:
    """Speeds of 2,000 and 2,100 images per second look alike."""
    text = line_chart("speed", [Series("speed", ((0.0, 2000.0), (1.0, 2100.0)))], x_label="step", y_label="images/s", from_zero=True)
    assert ">0</text>" in text.split('class="axis"')[0]


@pytest.mark.parametrize(
    ("value", "step", "text"), [(12_000, 2_000, "12k"), (0.05, 0.05, "0.05"), (2_500_000, 500_000, "2.5M"), (-0.0, 1, "0")]
)
def test_ticks_have_as_many_digits_as_they_need(value: float, step: float, text: str) -> None:
    """No 12000.000000001."""
    assert short_number(value, step) == text


def test_many_points_are_averaged_without_losing_the_mean() -> None:
    """1,200 points become 240 of the same mean."""
    thin = thinned([(float(step), float(step % 7)) for step in range(1200)])
    assert len(thin) == MOST_POINTS
    assert sum(y for _, y in thin) / len(thin) == pytest.approx(sum(step % 7 for step in range(1200)) / 1200)
