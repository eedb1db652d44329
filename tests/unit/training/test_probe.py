"""How many images fit: the search, and the estimate on CPUs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from conftest import make_work

from orchestrator.errors import TrainingError
from orchestrator.training import probe
from orchestrator.training.probe import Fit, ProbeWork, largest_fitting, probe_micro_batch


@pytest.mark.parametrize("limit", range(10))
def test_the_search_finds_the_largest_that_fits(limit: int) -> None:
    """For every place of the limit, in no more tries than a binary search and the first one at the top; None when nothing fits."""
    choices, tried = (1, 2, 3, 4, 6, 8, 12, 24), []

    def fits(rows: int) -> bool:
        tried.append(rows)
        return rows <= limit

    assert largest_fitting(choices, fits) == max((rows for rows in choices if rows <= limit), default=None)
    assert tried[0] == 24
    assert len(tried) == len(set(tried)) <= 4
    assert largest_fitting(choices, lambda _: True) == 24


def fit(place: Path, monkeypatch: pytest.MonkeyPatch, free: int, size: int = 8) -> Fit:
    monkeypatch.setattr(probe, "free_bytes", lambda: free)
    work = make_work(place, train={"ema": 0.9, "mixup": 0.2})
    data = work.job.data.model_copy(update={"image": work.job.data.image.model_copy(update={"size": size})})
    work = replace(work, job=work.job.model_copy(update={"data": data}))
    return probe_micro_batch(ProbeWork(work, (1, 2, 4, 8, 16, 32, 64), sharing=2))


def test_on_a_cpu_memory_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More memory takes more images, sixteen times the pixels take about a sixteenth of them, and the reason says what an image takes."""
    rows = {free: fit(tmp_path, monkeypatch, free).rows for free in (12 * 2**20, 24 * 2**20, 2**30)}
    assert rows[12 * 2**20] < rows[24 * 2**20] < rows[2**30] == 64
    small, large = fit(tmp_path, monkeypatch, 40 * 2**20), fit(tmp_path, monkeypatch, 40 * 2**20, size=32)
    assert 8 <= small.rows / large.rows <= 32
    assert "an image" in small.reason
    assert "of 10.0 MiB for each" in small.reason


def test_an_image_that_does_not_fit_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what a step takes, what there is, and what to change."""
    with pytest.raises(TrainingError, match="a step of 1 images takes") as raised:
        fit(tmp_path, monkeypatch, 2**20)
    assert "data.image.size" in raised.value.next_step
