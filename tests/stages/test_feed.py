"""The feed: what the workers get, in which order, whoever they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray
import torch
from ray.exceptions import RayActorError
from workshop import Workshop

from orchestrator.dataset.manifest import read_manifest
from orchestrator.durable import write_json
from orchestrator.images.geometry import HorizontalFlip, RandomCrop
from orchestrator.plan.values import TrainPlan
from orchestrator.spec.augment import SECTIONS
from orchestrator.spec.load import load_job
from orchestrator.stages.augmentation import augmentation_step, view_of
from orchestrator.stages.feed import Feed, FeedStart, Memory, epoch_order, spans
from orchestrator.stages.in_process import batches_of
from orchestrator.stages.ingest import NO_ROWS, batches_of_rank, from_block, make_dataset, stop_reading, streams, to_block
from orchestrator.training.batch import Batch, Phase

Make = Callable[..., Workshop]


@pytest.fixture
def feed(make_workshop: Make) -> Feed:
    """Seventy-two training images in steps of 16 = 4 micro-batches of 4, two epochs, augmented."""
    workshop = make_workshop()
    workshop.run(in_process=True, until="prepare")
    (data,) = (path for path in workshop.root.data.iterdir() if path.is_dir())
    manifest = read_manifest(data)
    plan = TrainPlan(
        workers=1,
        micro_batches=4,
        micro_batch_rows=4,
        steps_per_epoch=manifest.splits["train"] // 16,
        epochs=2,
        dropped_rows=manifest.splits["train"] % 16,
        device="cpu",
        worker_cpus=1,
        threads=1,
    )
    steps = (RandomCrop(2), HorizontalFlip(0.5))
    view = view_of(manifest.image, manifest.image.size)
    return Feed(data=data, manifest=manifest, view=view, workers=1, evaluation_rows=10, seed=5, window=2, steps=steps, train=plan)


def key(batch: Batch) -> tuple[object, ...]:
    return (batch.phase, batch.epoch, batch.step, batch.ids.tobytes(), batch.images.tobytes(), batch.labels.tobytes())


def samples_of_steps(batches: list[Batch]) -> dict[tuple[int, int], set[bytes]]:
    steps: dict[tuple[int, int], set[bytes]] = {}
    for batch in batches:
        if batch.phase is Phase.TRAIN:
            steps.setdefault((batch.epoch, batch.step), set()).update(row.tobytes() for row in batch.ids)
    return steps


@pytest.mark.parametrize(("side", "together"), [(16, 8), (224, 3), (1024, 1)])
def test_one_process_reads_few_evaluation_batches_of_large_images(feed: Feed, side: int, together: int) -> None:
    """However large they are, all of them are read, one stretch after the other, and nobody waits for more than 128 MiB, or one batch."""
    rows = 3 * 256
    manifest = replace(feed.manifest, shards=tuple(replace(shard, rows=rows) for shard in feed.manifest.shards))
    large = replace(feed, train=None, split="train", evaluation_rows=256, manifest=manifest, view=replace(feed.view, size=side))
    found = list(spans(large))
    batches = 3 * sum(shard.split == "train" for shard in manifest.shards)
    assert [number for span in found for number in range(span.first, span.stop)] == list(range(batches))
    assert [span.index for span in found] == [span.first for span in found]
    assert max(span.stop - span.first for span in found) == min(together, batches)


def test_an_epoch_trains_every_image_at_most_once_and_validates_all(feed: Feed) -> None:
    """Each epoch: whole steps of different training images, then every validation image once."""
    batches = list(batches_of(feed))
    for epoch in (0, 1):
        trained = [row.tobytes() for batch in batches if (batch.phase, batch.epoch) == (Phase.TRAIN, epoch) for row in batch.ids]
        validated = [row.tobytes() for batch in batches if (batch.phase, batch.epoch) == (Phase.VALIDATION, epoch) for row in batch.ids]
        assert len(trained) == len(set(trained)) == 64
        assert len(validated) == len(set(validated)) == feed.manifest.splits["validation"]
    assert [batch.index for batch in batches] == list(range(len(batches)))


@pytest.mark.parametrize("micro_batches", [1, 2, 4, 8])
def test_every_partition_of_a_step_has_the_same_samples(feed: Feed, micro_batches: int) -> None:
    """However a global step of 16 is cut, it holds the same 16 images."""
    assert feed.train is not None
    other = replace(feed, train=replace(feed.train, micro_batches=micro_batches, micro_batch_rows=16 // micro_batches))
    assert samples_of_steps(list(batches_of(other))) == samples_of_steps(list(batches_of(feed)))


def test_a_feed_continues_at_any_step(feed: Feed) -> None:
    """From any step on, the rest is the same, pixel for pixel."""
    assert feed.train is not None
    whole = [key(batch) for batch in batches_of(feed)]
    for epoch in (0, 1):
        for step in range(feed.train.steps_per_epoch + 1):
            rest = [key(batch) for batch in batches_of(replace(feed, start=FeedStart(epoch, step)))]
            assert rest == whole[len(whole) - len(rest) :]
            assert rest[0][:3] == ((Phase.TRAIN, epoch, step) if step < feed.train.steps_per_epoch else (Phase.VALIDATION, epoch, 0))


def test_every_transform_of_a_job_file_reaches_the_training_images(feed: Feed, tmp_path: Path) -> None:
    """With its defaults each one changes some training images and keeps their shape; ids, labels and validation images stay."""
    path = tmp_path / "transforms.yaml"
    plain = list(batches_of(replace(feed, steps=())))
    for name in SECTIONS:
        path.write_text(f"name: shapes\ndata: {{source: images}}\naugment: [{name}]\n")
        steps = tuple(augmentation_step(step) for step in load_job(path).job.augment)
        batches = list(batches_of(replace(feed, steps=steps)))
        changed = {before.phase for before, after in zip(plain, batches, strict=True) if not np.array_equal(before.images, after.images)}
        assert changed == {Phase.TRAIN}, name
        assert [batch.images.shape for batch in batches] == [batch.images.shape for batch in plain]
        assert [(batch.ids.tobytes(), batch.labels.tobytes()) for batch in batches] == [
            (batch.ids.tobytes(), batch.labels.tobytes()) for batch in plain
        ]


@pytest.mark.parametrize("workers", [2, 3, 4])
def test_validation_is_filled_up_with_empty_batches(feed: Feed, workers: int) -> None:
    """Every rank receives the same number of validation batches."""
    batches = [batch for batch in batches_of(replace(feed, workers=workers)) if batch.phase is Phase.VALIDATION and batch.epoch == 0]
    assert len(batches) % workers == 0
    assert sum(len(batch.labels) for batch in batches) == feed.manifest.splits["validation"]


def test_a_block_is_a_batch(feed: Feed) -> None:
    """What travels through Ray Data comes back as it was, empty batches as well, and the pixels are not copied."""
    for batch in batches_of(replace(feed, workers=4)):
        found = from_block(to_block(batch))
        assert key(found) == key(batch)
        assert found.index == batch.index
        assert not len(batch.ids) or np.shares_memory(found.images, batch.images)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_ray_data_delivers_the_feed_in_its_order(feed: Feed, workers: int, ray_cluster: None) -> None:
    """Rank r of N receives the micro-batches r, r+N, r+2N, ..., exactly as this process reads them."""
    from concurrent.futures import ThreadPoolExecutor

    shared = replace(feed, workers=workers)
    dataset = make_dataset(shared)
    shards = dataset.streaming_split(workers, equal=True)
    with ThreadPoolExecutor(workers) as pool:
        received = list(pool.map(lambda rank: [key(batch) for batch in batches_of_rank(shards[rank], rank, workers)], range(workers)))

    expected = [key(batch) for batch in batches_of(shared)]
    assert received == [expected[rank::workers] for rank in range(workers)]


def test_memory_is_taken_again_when_it_is_free() -> None:
    """Never while a batch, a part of one, a tensor or a block refers to it."""
    memory = Memory()
    images = [memory.take((2, 4, 4, 3)) for _ in range(3)]
    holders = [images[0][1:], torch.from_numpy(images[1]), to_block(Batch(0, Phase.TRAIN, 0, 0, images[2], *NO_ROWS[1:]))]
    places = [array.ctypes.data for array in images]
    del images
    assert memory.take((2, 4, 4, 3)).ctypes.data not in places
    while holders:
        holders.pop()
    assert memory.take((1, 4, 4, 3)).ctypes.data in places


def test_reading_ends_with_the_streams(feed: Feed, ray_cluster: None) -> None:
    """In the middle of a feed as well: nothing of it holds CPUs that the next start of a worker group waits for."""
    alone = replace(feed, workers=1)
    with streams(alone, free_cpus=1) as (stream,):
        first = next(batches_of_rank(stream, 0, 1))
    assert key(first) == key(next(iter(batches_of(alone))))
    with pytest.raises(RayActorError):
        next(batches_of_rank(stream, 0, 1))


def test_streams_begin_again_where_a_file_says(feed: Feed, ray_cluster: None, tmp_path: Path) -> None:
    """As for a group that is started again: first from the beginning, then, from the same streams, from the step in the file."""
    alone, start = replace(feed, workers=1), tmp_path / "start.json"
    with streams(alone, free_cpus=1, start=start) as shards:
        first = next(batches_of_rank(shards[0], 0, 1))
        ray.get(stop_reading(shards))
        write_json(start, {"epoch": 1, "step": 1})
        again = [key(batch) for batch in batches_of_rank(shards[0], 0, 1)]
    assert key(first) == key(next(iter(batches_of(alone))))
    assert again == [key(batch) for batch in batches_of(replace(alone, start=FeedStart(1, 1)))]


def test_a_stretch_needs_few_shards_in_memory(feed: Feed) -> None:
    """A training span reads the shards of at most two windows, however long the epoch is."""
    assert feed.train is not None
    size = feed.train.micro_batch_rows
    for span in spans(replace(feed, window=1)):
        if span.phase is Phase.TRAIN:
            units, _ = epoch_order(replace(feed, window=1), span.epoch).rows(span.first * size, span.stop * size)
            assert len(np.unique(units)) <= 2
