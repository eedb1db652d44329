"""Both ways of running a plan keep the same promises and give the same answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file
from workshop import CLASSES, Workshop

from orchestrator.errors import DataError, StorageError
from orchestrator.launch.evaluate import evaluate_run
from orchestrator.record.journal import read_events
from orchestrator.stages.evaluate import part_file, predictions_table, read_parts
from orchestrator.stages.failure import first_line
from orchestrator.stages.parquet import write_table
from orchestrator.testing import write_image_folder
from orchestrator.training.metrics import Predictions

Make = Callable[..., Workshop]


def manifest_bytes(workshop: Workshop) -> bytes:
    (path,) = workshop.root.data.glob("*/manifest.json")
    return path.read_bytes()


def weights(path: Path) -> dict[str, np.ndarray]:
    return load_file(path)


def test_a_job_becomes_an_evaluated_model(make_workshop: Make, in_process: bool) -> None:
    """Two epochs on images that differ by class beat guessing by far, and every promised file is there."""
    workshop = make_workshop()
    outcome = workshop.run("train.epochs=4", in_process=in_process)
    folder = outcome.folder
    metrics = json.loads(folder.metrics.read_bytes())

    assert metrics["accuracy"] > 0.6
    assert metrics["rows"] == 24
    assert outcome.report.status == "done"
    for path in (folder.job, folder.resolved_job, folder.plan, folder.predictions, folder.mistakes, folder.weights, folder.report_html):
        assert path.is_file(), path


def test_a_second_run_has_nothing_to_do(make_workshop: Make) -> None:
    """The same job again is the same run: nothing is done, and no event but the old ones is there."""
    workshop = make_workshop()
    first = workshop.run(in_process=True)
    events = len(read_events(first.folder.events))
    second = workshop.run(in_process=True)

    assert second.reused
    assert second.folder == first.folder
    assert len(read_events(first.folder.events)) == events


def test_both_engines_prepare_the_same_shards(make_workshop: Make, ray_cluster: None) -> None:
    """The manifest is the same, byte for byte, whoever did the work."""
    here, on_ray = make_workshop(name="here"), make_workshop(name="ray")
    here.run(in_process=True, until="prepare")
    shards = {path.name for path in here.root.data.glob("*/shards/*")}
    on_ray.run(in_process=False, until="prepare")

    names = {path.name for path in on_ray.root.data.glob("*/shards/*")}
    first, second = json.loads(manifest_bytes(here)), json.loads(manifest_bytes(on_ray))
    assert names == shards
    assert first["shards"] == second["shards"]
    assert first["splits"] == second["splits"]


def test_both_engines_train_the_same_weights(make_workshop: Make, ray_cluster: None) -> None:
    """One worker on Ray computes exactly what this process computes, with augmentation."""
    workshop = make_workshop()
    job = ("augment=[{random_crop: {padding: 2}}, horizontal_flip]",)
    here = workshop.run(*job, in_process=True, until="train").folder.weights
    expected = hashlib.sha256(here.read_bytes()).hexdigest()
    here.unlink()
    for checkpoint in here.parent.parent.joinpath("checkpoints").iterdir():
        for file in checkpoint.iterdir():
            file.unlink()
        checkpoint.rmdir()
    there = workshop.run(*job, in_process=False, until="train").folder.weights

    assert there == here
    assert hashlib.sha256(there.read_bytes()).hexdigest() == expected


def test_1_2_and_4_workers_give_the_same_parameters(make_workshop: Make, ray_cluster: None) -> None:
    """After five steps of SGD at the same global batch, in fp32 without augmentation or batch statistics, parameters agree within 1e-5."""
    workshop = make_workshop(images_per_class=45)
    job = ("train.epochs=1", "train.precision=fp32")
    trained = {
        workers: weights(workshop.run(*job, f"train.workers={workers}", in_process=False, until="train").folder.weights)
        for workers in (1, 2, 4)
    }

    assert set(trained[1]) == set(trained[2]) == set(trained[4])
    for workers in (2, 4):
        for name, values in trained[1].items():
            np.testing.assert_allclose(trained[workers][name], values, atol=1e-5, rtol=0, err_msg=f"{name} with {workers} workers")


def test_every_rank_holds_the_same_weights_each_epoch(make_workshop: Make, ray_cluster: None) -> None:
    """With two workers the hash of the weights was compared after every epoch."""
    workshop = make_workshop()
    folder = workshop.run("train.workers=2", in_process=False, until="train").folder
    verified = [event for event in read_events(folder.events) if event["event"] == "WeightsVerified"]

    assert [event["epoch"] for event in verified] == [0, 1]
    assert all(event["workers"] == 2 and len(event["sha256"]) == 64 for event in verified)


def test_what_a_lost_group_predicted_is_not_counted(tmp_path: Path) -> None:
    """Started again with fewer workers, or more, an evaluation reads the parts of its own workers alone."""
    images = np.arange(6, dtype=np.float32)
    ids, labels = np.tile(images.astype(np.uint8)[:, None], 16), images.astype(np.int64)
    whole = Predictions(ids, labels, labels, images, images, images > 0, images)
    for workers in (3, 1, 2):
        for rank in range(workers):
            part = Predictions(**{field.name: getattr(whole, field.name)[rank::workers] for field in fields(whole)})
            write_table(part_file(tmp_path, rank, workers), predictions_table(part))
    for workers in (3, 1, 2):
        assert sorted(read_parts(tmp_path, workers).labels.tolist()) == list(range(6))


def test_101_rows_give_101_predictions_on_any_number_of_workers(make_workshop: Make, ray_cluster: None) -> None:
    """1, 2, 3 and 4 workers, and this process, predict each of 101 images once, with equal metrics."""
    workshop = make_workshop()
    (workshop.images / "train").mkdir()
    for name in CLASSES:
        (workshop.images / name).rename(workshop.images / "train" / name)
    write_image_folder(workshop.images / "test", classes=CLASSES, images_per_class=34, size=16)
    next((workshop.images / "test" / "disc").iterdir()).unlink()
    folder = workshop.run("train.epochs=1", in_process=True).folder
    expected = folder.metrics.read_bytes()
    ids = pq.read_table(folder.predictions)["id"].to_pylist()

    assert json.loads(expected)["rows"] == len(set(ids)) == len(ids) == 101
    for workers in (1, 2, 3, 4):
        folder.metrics.unlink()
        evaluate_run(folder, workshop.root, workers=workers, in_process=False, watch=lambda _: nullcontext(), announce=lambda _: None)
        assert pq.read_table(folder.predictions)["id"].to_pylist() == ids
        assert folder.metrics.read_bytes() == expected


def test_unreadable_images_are_listed_and_counted(make_workshop: Make, in_process: bool) -> None:
    """Below `max_bad_fraction` the run goes on, and rejects.parquet names each image with its reason."""
    workshop = make_workshop()
    (workshop.images / "disc" / "broken.png").write_bytes(b"")
    (workshop.images / "ring" / "text.jpg").write_text("this is not an image")
    workshop.run("data.max_bad_fraction=0.05", in_process=in_process, until="prepare")

    (path,) = workshop.root.data.glob("*/rejects.parquet")
    table = pq.read_table(path)
    found = {Path(row["path"].decode() if isinstance(row["path"], bytes) else row["path"]).name: row["reason"] for row in table.to_pylist()}
    assert found == {"broken.png": "empty_file", "text.jpg": "not_an_image"}


def test_too_many_unreadable_images_stop_the_run_before_training(make_workshop: Make) -> None:
    """Above `max_bad_fraction` nothing is trained, and the error says how many and where the list is."""
    workshop = make_workshop()
    for number in range(10):
        (workshop.images / "disc" / f"broken{number}.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match="10 of 130"):
        workshop.run(in_process=True)

    assert not list(workshop.root.runs.glob("*/checkpoints/*"))


def test_a_source_without_a_readable_image_fails_with_exit_code_1(make_workshop: Make) -> None:
    """When no image could be read, the run fails whatever `max_bad_fraction` allows."""
    workshop = make_workshop()
    for path in workshop.images.rglob("*.png"):
        path.write_text("text")
    with pytest.raises(DataError, match="none of the 120 images") as raised:
        workshop.run("data.max_bad_fraction=0.99", in_process=True)

    assert raised.value.exit_code == 1


def test_a_damaged_shard_is_named(make_workshop: Make, in_process: bool) -> None:
    """One flipped bit of prepared data ends training with the shard's name and exit code 6, not with wrong pixels."""
    workshop = make_workshop()
    workshop.run(in_process=True, until="prepare")
    for shard in workshop.root.data.glob("*/shards/*.parquet"):
        content = bytearray(shard.read_bytes())
        content[len(content) // 3] ^= 1
        shard.write_bytes(content)
    with pytest.raises(StorageError, match=r"the shard .*\.parquet is damaged") as raised:
        workshop.run(in_process=in_process)

    assert raised.value.exit_code == 6


def test_storage_that_takes_no_shard_is_named(make_workshop: Make, in_process: bool) -> None:
    """Where a shard cannot be written, prepare ends with the path and exit code 6, and commits nothing."""
    workshop = make_workshop()
    workshop.run(in_process=True, until="prepare")
    (data,) = (path for path in workshop.root.data.iterdir() if path.is_dir())
    (data / "manifest.json").unlink()
    for folder in ("shards", "units"):
        for path in (data / folder).iterdir():
            path.unlink()
    (data / "shards").rmdir()
    (data / "shards").write_text("a file where a folder is needed")
    with pytest.raises(StorageError, match="shards"):
        workshop.run(in_process=in_process, until="prepare")

    assert not (data / "manifest.json").exists()


def test_an_error_without_words_is_named_by_its_kind() -> None:
    """A bare `assert` in a network of the user's ends a run with that name, and not with an error about an error."""
    assert first_line(AssertionError()) == "AssertionError"
    assert first_line(RuntimeError("out of memory\nfree some")) == "out of memory"
