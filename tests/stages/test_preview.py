"""What a preview shows is what training is given, pixel for pixel."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from workshop import CLASSES, Workshop

from orchestrator.dataset.manifest import Manifest, read_manifest
from orchestrator.errors import DataError, JobError, TrainingError
from orchestrator.images.verdict import Reason
from orchestrator.launch.preview import Previewed, check_size, preview
from orchestrator.launch.run import finished_stages
from orchestrator.plan.make import DataFacts, make_plan
from orchestrator.plan.values import ClusterShape, Plan
from orchestrator.spec.job import JobSpec
from orchestrator.spec.load import load_job
from orchestrator.stages.evaluate import evaluation_feed
from orchestrator.stages.in_process import batches_of
from orchestrator.stages.train import training_feed
from orchestrator.testing import write_bad_images, write_image_folder
from orchestrator.training.batch import Batch, Phase

Make = Callable[..., Workshop]
AUGMENT = "augment=[{random_crop: {padding: 3}}, random_resized_crop, horizontal_flip, rand_augment, erasing]"
IMAGES = ("store: jpeg", "store: png", "store: raw", "store: original", "store: jpeg, channels: 1, fit: pad", "store: jpeg, store_size: 30")
"""Every store, and pictures stored larger than they are seen."""


def preview_of(workshop: Workshop, *overrides: str, images: int = 8, epochs: int = 2) -> tuple[Previewed, ...]:
    return preview(load_job(workshop.job, overrides).job, workshop.root, images, epochs, lambda _: None)


def data_of(workshop: Workshop) -> Path:
    (manifest,) = workshop.root.data.glob("*/manifest.json")
    return manifest.parent


def plan_of(job: JobSpec, manifest: Manifest) -> Plan:
    facts = DataFacts(manifest.fingerprint, manifest.classes, dict(manifest.splits))
    return make_plan(job, facts, ClusterShape(cpus=2, gpus=0), "job.yaml")


def trained(workshop: Workshop, *overrides: str) -> dict[tuple[str, int], np.ndarray]:
    """The pixels of every micro-batch of the real feed of a prepared job, by id and epoch."""
    job, manifest = load_job(workshop.job, overrides).job, read_manifest(data_of(workshop))
    plan = plan_of(job, manifest)
    feed = training_feed(job, plan, manifest, data_of(workshop), workshop.root.path / "no checkpoints", 1)
    batches = [batch for batch in batches_of(feed) if batch.phase is Phase.TRAIN]
    rows = [(batch.epoch, identity.tobytes().hex(), pixels) for batch in batches for identity, pixels in rows_of(batch)]
    return {(identity, epoch): pixels for epoch, identity, pixels in rows}


def evaluated(workshop: Workshop, *overrides: str) -> dict[str, np.ndarray]:
    """The pixels of the training images as an evaluation of them is given them."""
    job, manifest = load_job(workshop.job, overrides).job, read_manifest(data_of(workshop))
    plan = plan_of(job, manifest)
    batches = batches_of(evaluation_feed(job, plan, manifest, data_of(workshop), "train", 1))
    return {identity.tobytes().hex(): pixels for batch in batches for identity, pixels in rows_of(batch)}


def rows_of(batch: Batch) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    return zip(batch.ids, batch.images, strict=True)


@pytest.mark.parametrize("first", ["horizontal_flip", "random_resized_crop"])
@pytest.mark.parametrize("image", IMAGES)
def test_a_preview_of_unprepared_images_is_what_the_feed_gives_later(make_workshop: Make, image: str, first: str) -> None:
    """Each image in each epoch, and without augmentation, is equal to that of the real feed; epochs differ."""
    workshop = make_workshop()
    write_image_folder(workshop.images, classes=CLASSES, images_per_class=40, size=(40, 30), form="jpeg")
    overrides = (f"data.image={{size: 24, {image}}}", f"augment=[{first}, rand_augment, erasing]", "train.seed=5")
    shown = preview_of(workshop, *overrides, images=12)
    assert not workshop.root.path.exists()
    workshop.run(*overrides, in_process=True, until="prepare")
    given, plain = trained(workshop, *overrides), evaluated(workshop, *overrides)

    assert [one.name for one in shown] == [name for name in CLASSES for _ in range(4)]
    compared = 0
    for one in shown:
        assert np.array_equal(one.pictures[0], plain[one.id])
        assert not np.array_equal(one.pictures[1], one.pictures[2])
        for epoch in (0, 1):
            if (one.id, epoch) in given:  # the images of the last step that is not whole are not trained
                assert np.array_equal(one.pictures[1 + epoch], given[one.id, epoch])
                compared += 1
    assert compared >= 20


def test_a_preview_is_the_same_when_the_images_are_prepared(make_workshop: Make) -> None:
    """The same images, the same pixels."""
    workshop = make_workshop()
    before = preview_of(workshop, AUGMENT)
    workshop.run(in_process=True, until="prepare")
    after = preview_of(workshop, AUGMENT)
    assert [one.id for one in before] == [one.id for one in after]
    assert all(np.array_equal(one.pictures, two.pictures) for one, two in zip(before, after, strict=True))


def test_no_epoch_is_shown_that_is_not_trained(make_workshop: Make) -> None:
    """The job trains two."""
    assert preview_of(make_workshop(), images=1, epochs=20)[0].pictures.shape == (3, 16, 16, 3)


def test_images_that_cannot_be_read_are_named_and_others_take_their_place(make_workshop: Make) -> None:
    """One line for each, with the reason; as many pictures as asked for, while there are as many."""
    workshop = make_workshop(images_per_class=4)
    reasons = write_bad_images(workshop.images / "disc")
    job, lines = load_job(workshop.job, ("data.split={validation: 0, test: 0}",)).job, list[str]()
    shown = preview(job, workshop.root, 12, 1, lines.append)
    assert len(shown) == 12
    lines.clear()
    assert len(preview(job, workshop.root, 64, 1, lines.append)) == 12
    assert {tuple(line.split(":")[0].split(", ")) for line in lines} == {(f"skipped disc/{name}", reasons[name]) for name in reasons}


def test_a_source_without_a_readable_image_is_given_up(make_workshop: Make) -> None:
    """After a bounded number of tries."""
    workshop = make_workshop(images_per_class=100)
    for path in workshop.images.glob("*/*.png"):
        path.write_bytes(b"<!DOCTYPE html>")
    lines = list[str]()
    with pytest.raises(DataError, match=r"none of the first \d+ training images in .* could be read"):
        preview(load_job(workshop.job).job, workshop.root, 8, 1, lines.append)
    assert 50 <= len(lines) < 60
    assert all(Reason.NOT_AN_IMAGE in line for line in lines)


def test_an_image_that_a_manifest_names_and_nobody_has_is_skipped(make_workshop: Make) -> None:
    """It is a line, like one that cannot be read."""
    workshop = make_workshop(images_per_class=2)
    manifest = workshop.images / "list.csv"
    names = [f"{name}/{number:05d}.png" for name in CLASSES for number in range(3)]
    manifest.write_text("uri,label\n" + "".join(f"{name},{name.partition('/')[0]}\n" for name in names))
    job, lines = load_job(workshop.job, (f"data.source={manifest}", "data.split={validation: 0, test: 0}")).job, list[str]()
    assert len(preview(job, workshop.root, 9, 1, lines.append)) == 6
    assert sorted(lines) == [f"skipped {name}/00002.png, missing: the manifest names it, and there is no such file" for name in CLASSES]


def test_a_sheet_without_end_is_refused() -> None:
    """Before anything is read; what one may ask for at the default size is not."""
    check_size(64, 20, 224)
    with pytest.raises(JobError, match="too much for one sheet"):
        check_size(64, 20, 1024)


def test_a_collection_without_training_images_is_refused(make_workshop: Make) -> None:
    """It says of which source."""
    workshop = make_workshop()
    manifest = workshop.images / "list.csv"
    manifest.write_text("uri,label,split\n" + "".join(f"{name}/00000.png,{name},test\n" for name in CLASSES))
    with pytest.raises(JobError, match=r"list\.csv: has no training images"):
        preview_of(workshop, f"data.source={manifest}")


def test_the_report_of_a_run_shows_what_the_model_saw(make_workshop: Make) -> None:
    """From the prepared shards, the pixels of the real feed; the same bytes each time; in the page under the names of the classes."""
    workshop = make_workshop()
    folder = workshop.run(AUGMENT, in_process=True, until="train").folder
    content = json.loads(folder.preview.read_bytes())
    given, plain = trained(workshop, AUGMENT), evaluated(workshop)
    assert content["headings"] == ["evaluated", "epoch 1", "epoch 2"]
    assert [image["name"] for image in content["images"]] == [name for name in CLASSES for _ in range(2)]
    page = folder.report_html.read_text()
    for image in content["images"]:
        expected = [plain[image["id"]], *(given.get((image["id"], epoch)) for epoch in (0, 1))]
        for encoded, pixels in zip(image["pictures"], expected, strict=True):
            shown = cv2.imdecode(np.frombuffer(base64.b64decode(encoded), np.uint8), cv2.IMREAD_COLOR_RGB)
            assert pixels is None or np.array_equal(shown, pixels)
            assert encoded in page
    shown_before = {one.id for one in preview_of(workshop, AUGMENT, images=6)}
    assert {image["id"] for image in content["images"]} == shown_before

    again = make_workshop(name="again").run(AUGMENT, in_process=True, until="train").folder
    assert again.preview.read_bytes() == folder.preview.read_bytes()


def test_a_transform_that_fails_ends_the_run_and_leaves_no_preview(make_workshop: Make) -> None:
    """In the stage that trains, with the function's name; the prepared data stay."""
    workshop = make_workshop()
    with pytest.raises(TrainingError, match="json:fade cannot be imported"):
        workshop.run("augment=[{entry: 'json:fade'}]", in_process=True, until="train")
    (folder,) = (workshop.root.run(path.name) for path in workshop.root.runs.iterdir())
    assert finished_stages(folder) == {"prepare"}
    assert not folder.preview.exists()
