"""The benchmark of GPUs runs to its end without one; it says nothing about speed there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from toy import printed_names, run_benchmark

from orchestrator.testing import write_image_folder

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(1500)]

IMAGES = 16_000 if torch.cuda.is_available() else 160
"""Enough for two reports, which come once a second."""
TOY = (
    *("--toy", "--images", str(IMAGES), "--size", "64", "--batch", "4", "--epochs", "1", "--repeats", "1"),
    *("--large", "resnet18", "--small", "resnet18", "--cifar-epochs", "1"),
)


def test_the_benchmark_measures_everything_at_toy_size(tmp_path: Path) -> None:
    """Every row is there, with the fields that other programs read, and nothing but pictures is left behind."""
    cifar = write_image_folder(tmp_path / "cifar", classes=("a", "b"), images_per_class=300, size=32, splits=("train", "test"))
    printed, rows = run_benchmark("gpu", tmp_path / "bench", *TOY, "--cifar", str(cifar))

    large = [
        "resnet18, 64, jpeg: training on prepared images against from memory",
        "resnet18, 64: training from memory against the roofline of memory bandwidth",
        "resnet18, 64: evaluation of prepared images against from memory",
    ]
    small, accuracy = "resnet18, 64, raw: training on prepared images against from memory", "CIFAR-10, 1 epochs of resnet18: test accuracy"
    assert list(rows) == printed_names(printed) == [*large, small, accuracy]
    assert all(0 < row["low"] <= row["ratio"] <= row["high"] for row in rows.values())
    assert all(rows[name]["images_per_s"] > 0 and rows[name]["memory_images_per_s"] > 0 for name in (large[0], large[2], small))
    assert rows[large[1]]["roofline_images_per_s"] > 0
    assert rows[accuracy]["seconds"] > rows[accuracy]["train_s"] > 0
    assert sorted(path.name for path in (tmp_path / "bench").iterdir()) == ["data", "gpu.json"]
