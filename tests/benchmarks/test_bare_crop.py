"""The limit of ingest does the work that training reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bare_crop import run_bare_crops
from crop import crop_into, empty_batch
from ingest_once import job_of, stored
from pictures import list_pictures, write_pictures
from prepare_once import Workplace
from processes import plain_environment

from orchestrator.dataset.shards import ALL, read_rows
from orchestrator.images.augment import augmentation_rng
from orchestrator.plan.values import ClusterShape
from orchestrator.stages.in_process import InProcessEngine, batches_of
from orchestrator.stages.train import training_feed

EPOCHS, BATCH, IMAGES = 2, 4, 12


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("data"), IMAGES)


def test_the_bare_loop_computes_what_training_reads(pictures: Path, tmp_path: Path) -> None:
    """The same pixels from fewer calls, for every image of two epochs of originals."""
    job = job_of(pictures, "original", BATCH, epochs=EPOCHS)
    with stored(job, Workplace(InProcessEngine(), ClusterShape(cpus=2, gpus=0), tmp_path)) as prepared:
        shards = [read_rows(prepared.data / "shards" / shard.name, ALL) for shard in prepared.manifest.shards]
        files = {row.tobytes(): bytes(data) for shard in shards for row, data in zip(shard.ids, shard.images, strict=True)}
        feed = training_feed(job, prepared.plan, prepared.manifest, prepared.data, tmp_path / "checkpoints", 1)
        batches = list(batches_of(feed))

    assert len(files) == IMAGES
    assert [batch.epoch for batch in batches] == [0, 0, 0, 1, 1, 1]
    for batch in batches:
        expected = empty_batch(BATCH)
        for place, row in enumerate(batch.ids):
            crop_into(expected[place], files[row.tobytes()], augmentation_rng(job.train.seed, batch.epoch, row.tobytes()))
        assert np.array_equal(batch.images, expected)


@pytest.mark.parametrize("keep", [False, True])
def test_every_loop_works_through_its_share(pictures: Path, keep: bool) -> None:
    """With memory given back and with memory kept, all loops answer."""
    spent = run_bare_crops([str(path) for path in list_pictures(pictures)], EPOCHS, BATCH, keep=keep)
    assert spent.seconds > 0
    assert spent.cpu_s > 0
    assert spent.peak_bytes > 0


def test_what_ray_is_told_about_memory_does_not_reach_the_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    """They run as anybody would run them."""
    monkeypatch.setenv("MALLOC_TOP_PAD_", "1")
    assert "MALLOC_TOP_PAD_" not in plain_environment()
    assert plain_environment()["PATH"]
