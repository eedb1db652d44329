"""The benchmark of ingest runs to its end; how fast it is says the benchmark, not a test."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy import printed_names, run_benchmark

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

TOY = (
    *("--images", "48", "--batch", "8", "--epochs", "1", "--after", "0", "--repeats", "1"),
    *("--stores", "original", "raw", "--loaders", "torch"),
)
"""Loaders that are no dependency of ours would have to be installed first."""


def test_the_benchmark_measures_everything_at_toy_size(tmp_path: Path) -> None:
    """Every row is there, with the fields that other programs read, and nothing is left behind."""
    printed, rows = run_benchmark("ingest", tmp_path, *TOY)

    rivals = ("bare loops", "bare loops that keep memory", "torch DataLoader")
    speed = [
        *(f"original: speed against {rival}" for rival in rivals),
        *(f"raw{kind}: speed against originals{kind}" for kind in (", resized", "")),
    ]
    stored = [f"{store}: object store against pixels" for store in ("original", "raw")]
    assert list(rows) == [*speed, "original: CPU time against bare loops", *stored]
    assert all(0 < row["low"] <= row["ratio"] <= row["high"] and row["repeats"] == 1 for row in rows.values())
    facts = {f"{whose}{fact}" for whose in ("", "their_") for fact in ("images_per_s", "whole_images_per_s", "first_batch_s", "peak_mib")}
    assert all(facts <= set(rows[name]) for name in speed)
    assert rows[speed[2]]["workers"] >= 1
    assert all(rows[name]["executor_cpu_s"] > 0 and rows[name]["workers_cpu_s"] > 0 for name in rows if "CPU time" in name)
    assert {rows[name]["spilled_bytes"] for name in stored} == {0}
    assert printed_names(printed) == list(rows)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "ingest.json"]
