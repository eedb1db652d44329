"""The benchmark of training runs to its end; how fast it is says the benchmark, not a test."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy import printed_names, run_benchmark

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

TOY = ("--networks", "resnet18", "--batch", "4", "--steps", "32", "--repeats", "1", "--kills", "1")


def test_the_benchmark_measures_everything_at_toy_size(tmp_path: Path) -> None:
    """Every row is there, with the fields that other programs read and with equal numbers of threads, and nothing is left behind."""
    printed, rows = run_benchmark("train", tmp_path, *TOY)

    steps = [f"resnet18: step time {source} against plain DDP" for source in ("from memory", "on prepared images")]
    save = "resnet18: time with a checkpoint every 60 s against none"
    first = "resnet18: time from the command to the first step against torchrun"
    restart = "resnet18: time from the death of a worker to the next step, of 8 s"
    assert list(rows) == printed_names(printed) == [*steps, save, first, restart]
    assert all(0 < row["low"] <= row["ratio"] <= row["high"] and row["repeats"] == 1 for row in rows.values())
    for name in steps:
        row = rows[name]
        assert row["threads"] == row["their_threads"] >= 1
        assert (row["workers"], row["batch"], row["micro_batch"], row["their_steps"]) == (2, 4, 2, 29)
        assert row["steps"] >= 1
    assert rows[save]["save_s"] > 0
    assert rows[save]["mib"] > 2 * 11_000_000 * 4 / 2**20
    assert rows[first]["first_step_s"] > 0
    assert rows[restart]["restart_s"] > 0
    assert [path.name for path in tmp_path.iterdir()] == ["train.json"]
