"""The numbers of a benchmark and how they are shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from table import Measure, fact_ratios, interleave, median_fact, median_seconds, publish, row_of, speed_ratios, to_markdown

ROUNDS = [
    {"bare": Measure(2.0, {"cpu_s": 4.0}), "ours": Measure(2.5, {"cpu_s": 6.0})},
    {"bare": Measure(3.0, {"cpu_s": 4.0}), "ours": Measure(3.0, {"cpu_s": 4.0})},
    {"bare": Measure(1.8, {"cpu_s": 4.0}), "ours": Measure(2.0, {"cpu_s": 5.0})},
]


def test_measures_are_taken_in_turns() -> None:
    """One of each in every round, in the order given."""
    taken: list[str] = []

    def measure(name: str) -> Measure:
        taken.append(name)
        return Measure(float(len(taken)))

    rounds = interleave(2, {"bare": lambda: measure("bare"), "ours": lambda: measure("ours")})
    assert taken == ["bare", "ours", "bare", "ours"]
    assert [measured["ours"].seconds for measured in rounds] == [2.0, 4.0]


def test_ratios_compare_within_a_round() -> None:
    """A slow minute slows both sides; half the time is twice the speed, and facts are compared as they are."""
    assert speed_ratios(ROUNDS, "ours", "bare") == pytest.approx([0.8, 1.0, 0.9])
    assert fact_ratios(ROUNDS, "cpu_s", "ours", "bare") == pytest.approx([1.5, 1.0, 1.25])
    assert (median_seconds(ROUNDS, "ours"), median_fact(ROUNDS, "ours", "cpu_s")) == (2.5, 5.0)


def test_a_row_has_the_median_and_both_ends() -> None:
    """Of all ratios, and it says how many there were."""
    row = row_of("speed", [0.8, 1.0, 0.9], {"images": 2_000})
    assert (row.ratio, row.low, row.high) == (0.9, 0.8, 1.0)
    assert row.facts == {"repeats": 3, "images": 2_000}


def test_the_table_is_markdown() -> None:
    """A head, a rule, and a line for each row, with numbers that are short enough to read."""
    table = to_markdown([row_of("speed", [0.912], {"images": 20_000, "first_unit_s": 1.2345})])
    assert table.splitlines() == [
        "| what | ratio | low | high | facts |",
        "|---|---|---|---|---|",
        "| speed | 0.91 | 0.91 | 0.91 | repeats 1, images 20,000, first_unit_s 1.23 |",
    ]


def test_the_file_is_for_other_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Date, machine and versions, and rows with the facts beside the ratio; stdout has the table."""
    publish("toy", [row_of("speed", [0.9], {"images": 5})], tmp_path)
    written = json.loads((tmp_path / "toy.json").read_bytes())

    assert set(written) == {"date", "machine", "versions", "rows"}
    assert written["rows"] == [{"name": "speed", "ratio": 0.9, "low": 0.9, "high": 0.9, "repeats": 1, "images": 5}]
    assert written["machine"]["cores"] >= 1
    assert written["versions"]["ray"]
    assert "| speed | 0.90 |" in capsys.readouterr().out
