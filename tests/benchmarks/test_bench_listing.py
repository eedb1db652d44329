"""The benchmark of the listing runs to its end; how fast it is says the benchmark, not a test."""

from __future__ import annotations

from pathlib import Path

from toy import run_benchmark


def test_the_benchmark_measures_at_toy_size(tmp_path: Path) -> None:
    """Its one row has the fields that other programs read, and a second run takes the files that are there."""
    for _ in range(2):
        _, rows = run_benchmark("listing", tmp_path, "--files", "1200", "--repeats", "1")
    (row,) = rows.values()
    assert row["files"] == 1200
    assert row["files_per_s"] > 0
    assert row["peak_mib"] > 0
