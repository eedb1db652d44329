"""The benchmark of prepare runs to its end; how fast it is says the benchmark, not a test."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy import printed_names, run_benchmark

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

TOY = ("--images", "48", "--many", "96", "--repeats", "2", "--raylets", "1", "2", "--stores", "jpeg", "png")


def test_the_benchmark_measures_everything_at_toy_size(tmp_path: Path) -> None:
    """Every row is there, with the fields that other programs read; it ends with an error where a prepare left images out."""
    printed, rows = run_benchmark("prepare", tmp_path, *TOY)

    compared = [f"{store}: {what} against bare loops" for store in ("jpeg", "png") for what in ("speed", "CPU time")]
    assert list(rows) == [*compared, "jpeg: peak memory of many images against few", "jpeg: speed of 2 raylets against 1"]
    assert all(0 < row["low"] <= row["ratio"] <= row["high"] for row in rows.values())
    assert (rows[compared[0]]["repeats"], rows[compared[2]]["repeats"]) == (2, 1)
    assert all(rows[name]["images"] == 48 for name in compared[::2])
    assert rows["jpeg: peak memory of many images against few"]["many_images"] == 96
    assert printed_names(printed) == list(rows)
    assert [path.name for path in tmp_path.glob("root-*")] == []
