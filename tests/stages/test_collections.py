"""Collections that grow, whose images belong together, are kept as they are, or are tried again: on whole runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from workshop import CLASSES, Workshop

from orchestrator.dataset.verify import data_faults
from orchestrator.images.given import Given, Seen
from orchestrator.images.isolated import picture_process
from orchestrator.images.picture import PixelWork
from orchestrator.images.verdict import Reason, Rejection
from orchestrator.launch.retry import retry_rejects
from orchestrator.record.journal import read_events
from orchestrator.spec.load import load_job
from orchestrator.stages import prepare
from orchestrator.testing import write_image_folder

Make = Callable[..., Workshop]


def prepared(workshop: Workshop, *changes: str, in_process: bool = True) -> tuple[Path, list[dict[str, object]]]:
    """The folder of the data that a run prepares, and the run's events."""
    outcome = workshop.run(*changes, in_process=in_process, until="prepare")
    events = read_events(outcome.folder.events)
    return workshop.root.data / next(str(event["fingerprint"]) for event in reversed(events) if event["event"] == "DataPrepared"), events


def ids(data: Path) -> list[str]:
    return [identity for path in (data / "shards").iterdir() for identity in pq.read_table(path)["id"].to_pylist()]


def test_only_new_images_are_read(make_workshop: Make, in_process: bool) -> None:
    """Sixty images more on top of twelve hundred: sixty are read, whoever reads them, and the data is whole."""
    workshop = make_workshop(images_per_class=400)
    first, _ = prepared(workshop, in_process=in_process)
    write_image_folder(workshop.images, classes=["disc/more"], images_per_class=60, size=16, seed=1)
    second, events = prepared(workshop, in_process=in_process)
    (taken,) = [event for event in events if event["event"] == "UnitsTakenOver"]
    units = [event for event in events if event["event"] == "UnitPrepared"]

    assert (taken["images"], taken["earlier"]) == (1200, first.name)
    assert sum(int(str(unit["rows"])) for unit in units) == 60
    assert len(ids(second)) == len(set(ids(second))) == 1260
    assert data_faults(first) + data_faults(second) == []


def test_images_of_a_group_stay_in_one_split(make_workshop: Make) -> None:
    """Ten frames of each of thirty films: no film is on two sides, the shares are kept, and new frames follow their film."""
    workshop = make_workshop()
    rows = [
        {"uri": f"images/{name}/{number:05d}.png", "label": name, "group": f"{name}-{number // 4}"}
        for name in CLASSES
        for number in range(40)
    ]
    manifest = workshop.images.parent / "films.csv"
    first = pd.DataFrame(rows[: len(rows) - 2])
    first.to_csv(manifest, index=False)
    splits = splits_of(prepared(workshop, f"data.source={manifest}")[0], first)
    assert splits.groupby("group")["split"].nunique().max() == 1
    assert splits["split"].value_counts().to_dict() == {"train": 76, "validation": 22, "test": 20}

    everything = pd.DataFrame(rows)
    everything.to_csv(manifest, index=False)
    later = splits_of(prepared(workshop, f"data.source={manifest}")[0], everything)
    assert later.groupby("group")["split"].nunique().max() == 1
    assert later.merge(splits, on="uri").eval("split_x == split_y").all()


def splits_of(data: Path, manifest: pd.DataFrame) -> pd.DataFrame:
    """The manifest with the split that each image has come to."""
    shards = {shard["name"]: shard["split"] for shard in json.loads((data / "manifest.json").read_bytes())["shards"]}
    found = {
        row["path"]: split
        for name, split in shards.items()
        for row in pq.read_table(data / "shards" / name, columns=["image"])["image"].to_pylist()
    }
    return manifest.assign(split=manifest["uri"].map(found))


def test_originals_train_the_same_weights(make_workshop: Make) -> None:
    """Decoded and resized in every epoch or once beforehand without loss: not one bit of the model differs."""
    workshop = make_workshop()
    write_image_folder(workshop.images, classes=CLASSES, images_per_class=40, size=(24, 18), form="jpeg")
    weights = [workshop.run(f"data.image.store={store}", in_process=True).folder.weights.read_bytes() for store in ("png", "original")]
    assert hashlib.sha256(weights[0]).digest() == hashlib.sha256(weights[1]).digest()
    files = {hashlib.sha256(path.read_bytes()).hexdigest() for path in workshop.images.rglob("*.*")}
    originals = [path.parent for path in workshop.root.data.glob("*/manifest.json") if '"store": "original"' in path.read_text()]
    stored = [row["bytes"] for path in (originals[0] / "shards").iterdir() for row in pq.read_table(path)["image"].to_pylist()]
    assert {hashlib.sha256(content).hexdigest() for content in stored} == files


class BadMoment:
    """A decoder that runs out of time over every image whose hash is in `over`, and works as ever otherwise."""

    def __init__(self, over: set[str]) -> None:
        self.over = over

    def see(self, images: Iterable[Given], work: PixelWork) -> Iterator[Seen]:
        for seen in picture_process().see(images, work):
            if seen.sha256 in self.over:
                yield replace(seen, result=Rejection(Reason.DECODE_TIMEOUT, "a bad moment"))
            else:
                yield seen


def test_rejects_can_be_tried_again(make_workshop: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that can be read now come in, with their units alone; the earlier data stays whole, and later runs take the new one."""
    workshop = make_workshop()
    paths = sorted(workshop.images.rglob("*.png"))
    slow = {hashlib.sha256(path.read_bytes()).hexdigest() for path in paths[:2]}
    (workshop.images / "disc" / "text.png").write_text("for ever no image")
    said: list[str] = []
    changed = "data.max_bad_fraction=0.1"
    spec = load_job(workshop.job, [changed]).job.data
    monkeypatch.setattr(prepare, "picture_process", lambda: BadMoment(slow))
    first, _ = prepared(workshop, changed)
    retry_rejects(spec, workshop.root, said.append)
    assert said.pop() == "3 rejected images tried again, 0 can be read now"
    assert prepared(workshop, changed)[0] == first

    monkeypatch.undo()
    retry_rejects(spec, workshop.root, said.append)
    second, events = prepared(workshop, changed)
    assert said.pop() == "3 rejected images tried again, 2 can be read now"
    assert second != first
    assert [event for event in events if event["event"] == "UnitsTakenOver"]
    assert (len(ids(first)), len(ids(second))) == (118, 120)
    assert pq.read_table(second / "rejects.parquet")["reason"].to_pylist() == ["not_an_image"]
    assert data_faults(first) + data_faults(second) == []
