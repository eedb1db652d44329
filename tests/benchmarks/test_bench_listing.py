"""The benchmark of the listing runs to its end; how fast it is says the benchmark, not a test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_the_benchmark_measures_at_toy_size(tmp_path: Path) -> None:
    """Its one row has the fields that other programs read, and a second run takes the files that are there."""
    program = [
        sys.executable,
        str(Path(__file__).parent / "bench_listing.py"),
        "--files",
        "1200",
        "--repeats",
        "1",
        "--folder",
        str(tmp_path),
    ]
    for _ in range(2):
        done = subprocess.run(program, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    (row,) = json.loads((tmp_path / "listing.json").read_bytes())["rows"]
    assert row["files"] == 1200
    assert row["files_per_s"] > 0
    assert row["peak_mib"] > 0
