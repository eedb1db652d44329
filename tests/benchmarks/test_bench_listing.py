"""The benchmark of the listing runs to its end; how fast it is says the benchmark, not a test."""

from __future__ import annotations

from pathlib import Path

from bench_listing import write_files
from toy import run_benchmark


def test_the_benchmark_measures_at_toy_size(tmp_path: Path) -> None:
    """Its one row has the fields that other programs read, and it takes the files that are there."""
    files = write_files(tmp_path / "data", 1200)
    before = {path: path.stat().st_mtime_ns for path in files.rglob("*.jpg")}
    _, rows = run_benchmark("listing", tmp_path, "--files", "1200", "--repeats", "1")
    assert {path: path.stat().st_mtime_ns for path in files.rglob("*.jpg")} == before
    (row,) = rows.values()
    assert row["files"] == 1200
    assert row["files_per_s"] > 0
    assert row["peak_mib"] > 0
