"""What a run says about its images, and what becomes of them when the collection grows or is damaged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable

import numpy as np
import pyarrow.parquet as pq
import pytest
from workshop import Workshop

from orchestrator.errors import RunNotFound
from orchestrator.launch.verify import verify
from orchestrator.testing import write_image_folder

Make = Callable[..., Workshop]


def test_leaks_and_wrong_labels_are_in_the_report_with_pictures(make_workshop: Make, in_process: bool) -> None:
    """A file that lies in two classes is counted, named on the terminal, and shown side by side in the page."""
    workshop = make_workshop()
    for number in range(12):
        shutil.copy(workshop.images / "disc" / f"{number:05}.png", workshop.images / "ring" / f"copy-{number:05}.png")
    folder = workshop.run(in_process=in_process, until="prepare").folder
    health = json.loads(folder.report_json.read_bytes())["health"]
    page = folder.report_html.read_text()

    assert health["same_file"]["label_conflicts"] == 12
    assert health["same_file"]["leaks"] > 0
    assert health["kinds"] == {"png rgb": 132}
    assert "12 pairs in more than one class (same file)" in page
    assert "ring/copy-00000.png" in page
    assert json.loads(folder.health.read_bytes())["pairs"][0]["first"]["png"]


def test_old_images_keep_their_split_when_new_ones_come(make_workshop: Make) -> None:
    """The second run prepares the larger collection; nothing that was tested on is trained on, and the other way round."""
    workshop = make_workshop(images_per_class=20)
    workshop.run(in_process=True, until="prepare")
    more = write_image_folder(workshop.images.parent / "more", classes=("disc", "ring", "square"), images_per_class=40, size=16, seed=1)
    for path in more.glob("*/*.png"):
        shutil.copy(path, workshop.images / path.parent.name / f"new-{path.name}")
    workshop.run(in_process=True, until="prepare")
    before, after = sorted(
        (
            dict(zip(table["id"].to_pylist(), table["split"].to_pylist(), strict=True))
            for table in (pq.read_table(path) for path in workshop.root.data.glob("*/listing.parquet"))
        ),
        key=len,
    )

    assert (len(before), len(after)) == (60, 180)
    assert {identity: after[identity] for identity in before} == before
    assert list(after.values()).count("test") == 36


def test_verify_finds_a_flipped_bit_anywhere_in_a_run(make_workshop: Make) -> None:
    """Shards, listing, checkpoints, weights and predictions: each damage is one line with the file; a whole run has none."""
    workshop = make_workshop()
    folder = workshop.run(in_process=True).folder
    place, faults = verify(folder.name, workshop.root)
    assert (place, faults) == (folder.path, [])
    (data,) = (path.parent for path in workshop.root.data.glob("*/manifest.json"))
    assert verify(data.name, workshop.root) == (data, [])
    checkpoint = next(folder.checkpoints.glob("step-*/state.pt"))
    for path in (
        next(data.glob("shards/*")),
        data / "listing.parquet",
        data / "manifest.json",
        checkpoint,
        folder.weights,
        folder.predictions,
    ):
        content = path.read_bytes()
        at = int(np.random.default_rng(0).integers(8, len(content) // 2))
        path.write_bytes(content[:at] + bytes([content[at] ^ 16]) + content[at + 1 :])
        (fault,) = verify(folder.name, workshop.root)[1]
        assert path.name in fault or path.parent.name in fault
        path.write_bytes(content)
    assert verify(folder.name, workshop.root)[1] == []


def test_verify_of_nothing_says_so(make_workshop: Make) -> None:
    """Exit code 4."""
    with pytest.raises(RunNotFound, match="no run and no prepared data named nothing") as raised:
        verify("nothing", make_workshop().root)
    assert raised.value.exit_code == 4
