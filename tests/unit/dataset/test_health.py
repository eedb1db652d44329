"""What is found about a collection besides its number."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from orchestrator.dataset.health import HEALTH, measure_health, write_health
from orchestrator.dataset.manifest import Manifest, PixelStatistics, Shard, StoredImage
from orchestrator.dataset.shards import ShardRows, write_shard
from orchestrator.images.look import look_of


def picture(seed: int, side: int = 64) -> NDArray[np.uint8]:
    """Smooth and colourful, like a photograph seen from far away."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)


def prepared(data: Path, images: list[tuple[str, str, int, NDArray[np.uint8]]]) -> Manifest:
    """Shards of images given as (split, name of the file, label, pixels); files of the same name have the same content."""
    shards = []
    for split in ("train", "validation", "test"):
        rows = [image for image in images if image[0] == split]
        if rows:
            file = write_shard(
                data,
                ShardRows(
                    images=[cv2.imencode(".png", pixels)[1].tobytes() for _, _, _, pixels in rows],
                    paths=[f"{split}/{name}" for _, name, _, _ in rows],
                    labels=np.array([label for _, _, label, _ in rows], np.int64),
                    ids=np.random.default_rng(len(rows)).integers(0, 256, (len(rows), 16), np.uint8),
                    widths=np.array([pixels.shape[1] for *_, pixels in rows], np.int32),
                    heights=np.array([pixels.shape[0] for *_, pixels in rows], np.int32),
                    hashes=[f"{hash(name.rpartition('.')[0]) % 2**60:016x}" + "0" * 48 for _, name, _, _ in rows],
                    kinds=["png rgb"] * len(rows),
                    looks=[look_of(pixels) for *_, pixels in rows],
                ),
            )
            shards.append(Shard(file.name, file.rows, file.sha256, split))
    splits = {split: sum(image[0] == split for image in images) for split in ("train", "validation", "test")}
    image = StoredImage(64, 3, "png", "crop")
    return Manifest("f" * 16, "r", ("cat", "dog"), splits, 0, {}, image, PixelStatistics((0.0,) * 3, (1.0,) * 3), tuple(shards))


def test_a_sound_collection_has_nothing_to_look_at(tmp_path: Path) -> None:
    """Different pictures are no duplicates; balance, sizes and kinds are counted."""
    images = [
        (split, f"{split}{n}.png", n % 2, picture(1000 * place + n)) for place, split in enumerate(("train", "test")) for n in range(50)
    ]
    health = measure_health(tmp_path, prepared(tmp_path, images))

    assert health["same_file"] == {"pairs": 0, "leaks": 0, "label_conflicts": 0}
    assert health["look_alike"] == {"pairs": 0, "compared": True, "leaks": 0, "label_conflicts": 0}
    assert health["classes"] == {"cat": {"train": 25, "test": 25}, "dog": {"train": 25, "test": 25}}
    assert health["short_side"] == [64.0] * 5
    assert health["kinds"] == {"png rgb": 100}
    assert health["pairs"] == []


def test_the_same_file_in_two_splits_or_classes_is_found(tmp_path: Path) -> None:
    """A leak, a conflict of labels, both at once, and a mere duplicate: counted, and shown in the order of their weight."""
    images = [
        ("train", "leak.png", 0, picture(1)),
        ("test", "leak.png", 0, picture(1)),
        ("train", "label.png", 0, picture(2)),
        ("train", "label.png", 1, picture(2)),
        ("train", "both.png", 0, picture(3)),
        ("validation", "both.png", 1, picture(3)),
        ("train", "twice.png", 0, picture(4)),
        ("train", "twice.png", 0, picture(4)),
    ]
    health = measure_health(tmp_path, prepared(tmp_path, images))

    assert health["same_file"] == {"pairs": 4, "leaks": 2, "label_conflicts": 2}
    assert health["look_alike"]["pairs"] == 0
    assert [pair["fault"] for pair in health["pairs"]] == ["leak and label", "label", "leak", ""]
    first, second = health["pairs"][0]["first"], health["pairs"][0]["second"]
    assert (first["path"], second["path"]) == ("train/both.png", "validation/both.png")
    assert (first["name"], second["name"]) == ("cat", "dog")


@pytest.mark.parametrize("change", ["jpeg", "smaller", "brighter"])
def test_a_picture_saved_again_looks_alike(tmp_path: Path, change: str) -> None:
    """Another quality, size or brightness makes another file of the same picture; it is found among others."""
    original = picture(7, 96)
    changed = {
        "jpeg": lambda: cv2.imdecode(cv2.imencode(".jpg", original, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], cv2.IMREAD_COLOR),
        "smaller": lambda: cv2.resize(original, (64, 64), interpolation=cv2.INTER_AREA),
        "brighter": lambda: cv2.convertScaleAbs(original, alpha=0.8, beta=20),
    }[change]()
    others = [("train", f"{n}.png", 0, picture(100 + n)) for n in range(200)]
    images = [("train", "original.png", 0, original), *others, ("test", "again.png", 0, changed)]
    health = measure_health(tmp_path, prepared(tmp_path, images))

    assert health["look_alike"]["leaks"] == 1
    assert (health["pairs"][0]["kind"], health["pairs"][0]["fault"]) == ("look alike", "leak")


def test_plain_pictures_are_not_taken_for_each_other(tmp_path: Path) -> None:
    """White, black, and nearly so: there is nothing on them to compare."""
    images = [("train", f"{level}.png", 0, np.full((64, 64, 3), level, np.uint8)) for level in range(0, 250, 5)]

    assert measure_health(tmp_path, prepared(tmp_path, images))["look_alike"]["pairs"] == 0


def test_files_named_as_another_format_are_counted(tmp_path: Path) -> None:
    """They are taken all the same; an extension that says nothing is no fault."""
    images = [("train", name, 0, picture(place)) for place, name in enumerate(("a.png", "b.jpg", "c.JPEG", "d", "e.PNG"))]

    assert measure_health(tmp_path, prepared(tmp_path, images))["misnamed"] == 2


def test_the_same_shards_give_the_same_file(tmp_path: Path) -> None:
    """It can be made again at any time."""
    manifest = prepared(tmp_path, [("train", f"{n % 30}.png", n % 2, picture(n % 30)) for n in range(60)])
    write_health(tmp_path, manifest)
    first = (tmp_path / HEALTH).read_bytes()
    write_health(tmp_path, manifest)

    assert (tmp_path / HEALTH).read_bytes() == first
