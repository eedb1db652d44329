"""Every entry of a source is taken, or skipped by a named rule; anything else is an error with the next step."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.dataset.fingerprint import fingerprint
from orchestrator.dataset.listing import sample_id
from orchestrator.dataset.sources.find import list_images
from orchestrator.dataset.splits import assign_splits
from orchestrator.errors import DataError, JobError


def touch(path: Path, content: bytes = b"x") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def two_classes(root: Path, count: int = 20) -> Path:
    for name in ("cat", "dog"):
        for number in range(count):
            touch(root / name / f"{number:03d}.jpg", bytes(number + 1))
    return root


def make_deep_folder(folder: Path, name: str, levels: int) -> int:
    """Folders inside one another, the path longer than any function takes at once; a descriptor of the innermost."""
    descriptor = os.open(folder, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=descriptor)
        inner = os.open(name, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
    return descriptor


def message(root: Path) -> str:
    with pytest.raises(JobError) as raised:
        list_images(root)
    assert raised.value.exit_code == 2
    assert raised.value.next_step
    return str(raised.value)


def test_a_folder_per_class_is_listed(tmp_path: Path) -> None:
    """Classes are the sorted names of the folders, ids come from path and size, nested folders belong to their class."""
    touch(two_classes(tmp_path) / "cat" / "deep" / "er.PNG", b"abc")
    listing = list_images(tmp_path)
    rows = {row["path"]: row for row in listing.table.to_pylist()}

    assert listing.classes == ("cat", "dog")
    assert listing.table.num_rows == 41
    assert rows[b"cat/deep/er.PNG"]["id"] == sample_id(b"cat/deep/er.PNG", 3)
    assert rows[b"dog/003.jpg"]["label"] == 1
    assert listing.skipped == {}


def test_what_is_left_out_is_counted_by_rule(tmp_path: Path) -> None:
    """Hidden files, other extensions, links that lead nowhere or outside, and images outside class folders."""
    two_classes(tmp_path / "source")
    source = tmp_path / "source"
    touch(source / "cat" / ".hidden.jpg")
    touch(source / "cat" / "notes.txt")
    touch(source / "stray.jpg")
    touch(source / "README.md")
    touch(source / ".git" / "x.jpg")
    touch(tmp_path / "elsewhere.jpg")
    (source / "cat" / "outside.jpg").symlink_to(tmp_path / "elsewhere.jpg")
    (source / "cat" / "dangling.jpg").symlink_to(source / "nowhere.jpg")
    (source / "cat" / "inside.jpg").symlink_to(source / "dog" / "001.jpg")
    (source / "cat" / "circle.jpg").symlink_to("circle.jpg")
    (source / "cat" / "puppies").symlink_to(source / "dog")
    (source / "dogs").symlink_to(source / "dog")
    (source / "bird" / "deep").mkdir(parents=True)
    os.mkfifo(source / "dog" / "pipe.jpg")
    listing = list_images(source)

    assert listing.table.num_rows == 41
    assert listing.skipped == {
        "empty_class_folder": 1,
        "extension_not_of_an_image": 1,
        "hidden": 2,
        "image_outside_a_class_folder": 1,
        "not_a_class_folder": 1,
        "not_a_regular_file": 1,
        "symlink_dangling": 2,
        "symlink_outside": 1,
        "symlink_to_folder": 2,
    }


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """Nothing is left out in silence: a path longer than the system takes is named."""
    os.close(make_deep_folder(two_classes(tmp_path) / "cat", "d" * 250, 20))
    with pytest.raises(DataError, match=r"cannot read .*dddd: File name too long"):
        list_images(tmp_path)


def test_folders_may_be_deep(tmp_path: Path) -> None:
    """Images lie below their class at any depth that the system takes, more than Python calls functions in functions."""
    deepest = make_deep_folder(two_classes(tmp_path) / "cat", "d", 1200)
    os.close(os.open("1.jpg", os.O_CREAT, dir_fd=deepest))
    os.close(deepest)
    try:
        assert list_images(tmp_path).table.num_rows == 41
    finally:
        subprocess.run(["rm", "-rf", str(tmp_path / "cat" / "d")], check=True)  # deeper than shutil removes


def test_empty_class_folders_of_splits_are_counted(tmp_path: Path) -> None:
    """A class folder without images under train/ or test/ is no class, and not silent."""
    two_classes(tmp_path / "train", 3)
    two_classes(tmp_path / "test", 3)
    (tmp_path / "train" / "bird").mkdir()
    (tmp_path / "test" / "fish").mkdir()
    listing = list_images(tmp_path)
    assert listing.classes == ("cat", "dog")
    assert listing.skipped == {"empty_class_folder": 2}


def test_names_that_are_not_utf_8_are_listed(tmp_path: Path) -> None:
    """A file name is bytes; newlines and invalid UTF-8 change nothing."""
    two_classes(tmp_path)
    for name in (b"\xff\xfe.jpg", b"new\nline.jpg", b" lead.jpg", "größe.jpg".encode()):
        with open(os.path.join(os.fsencode(tmp_path), b"cat", name), "wb") as file:  # noqa: PTH118, PTH123 -- bytes
            file.write(b"x")
    paths = list_images(tmp_path).table["path"].to_pylist()

    assert b"cat/\xff\xfe.jpg" in paths
    assert b"cat/new\nline.jpg" in paths
    assert len(paths) == 44


def test_split_folders_are_kept(tmp_path: Path) -> None:
    """train/, val/ and test/ above the class folders decide the split."""
    for split in ("train", "val", "test"):
        two_classes(tmp_path / split, 5)
    listing = list_images(tmp_path)
    assert listing.classes == ("cat", "dog")
    assert sorted(set(listing.table["split"].to_pylist())) == ["test", "train", "validation"]


def test_a_class_that_train_does_not_have_is_refused(tmp_path: Path) -> None:
    """A misspelt class folder in test/ is named."""
    two_classes(tmp_path / "train", 3)
    two_classes(tmp_path / "test", 3)
    touch(tmp_path / "test" / "dgo" / "1.jpg")
    assert "test/dgo is a class that train/ does not have" in message(tmp_path)


def test_sources_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    """Missing, a file, empty, one class, text files, images without class folders: each its own words."""
    touch(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    touch(tmp_path / "one" / "cat" / "1.jpg")
    touch(tmp_path / "text" / "cat" / "1.txt")
    touch(tmp_path / "text" / "dog" / "1.txt")
    touch(tmp_path / "flat" / "1.jpg")
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "cat").symlink_to(tmp_path / "one" / "cat")

    assert "no such folder" in message(tmp_path / "missing")
    assert "is not a folder" in message(tmp_path / "file")
    assert "the folder is empty" in message(tmp_path / "empty")
    assert "only one class: cat with 1 image" in message(tmp_path / "one")
    assert "no images, but these files: 2 .txt" in message(tmp_path / "text")
    assert "1 image lie in no class folder" in message(tmp_path / "flat")
    assert "no images, but 1 link to folders" in message(tmp_path / "links")


def test_splits_are_stratified_seeded_and_independent_of_order(tmp_path: Path) -> None:
    """Each class gives its share; the seed decides which images; the order of the listing does not matter."""
    listing = list_images(two_classes(tmp_path, 50))
    table = assign_splits(listing, validation=0.1, test=0.2, seed=3)
    counts = {}
    for row in table.to_pylist():
        counts[row["label"], row["split"]] = counts.get((row["label"], row["split"]), 0) + 1
    assert counts == {(label, split): count for label in (0, 1) for split, count in (("train", 35), ("validation", 5), ("test", 10))}

    backwards = listing.table.take(list(range(99, -1, -1)))
    other = assign_splits(replace(listing, table=backwards), validation=0.1, test=0.2, seed=3)
    by_id = lambda rows: {row["id"]: row["split"] for row in rows.to_pylist()}  # noqa: E731
    assert by_id(other) == by_id(table)
    assert by_id(assign_splits(listing, validation=0.1, test=0.2, seed=4)) != by_id(table)


def test_split_folders_win_over_shares(tmp_path: Path) -> None:
    """With a test/ folder the test share is ignored; validation is taken from train/."""
    two_classes(tmp_path / "train", 20)
    two_classes(tmp_path / "test", 4)
    table = assign_splits(list_images(tmp_path), validation=0.25, test=0.5, seed=0)
    splits = table["split"].to_pylist()
    assert (splits.count("train"), splits.count("validation"), splits.count("test")) == (30, 10, 8)


def test_a_class_keeps_an_image_for_training(tmp_path: Path) -> None:
    """Classes of one and two images never lose their last one."""
    two_classes(tmp_path, 10)
    touch(tmp_path / "rare" / "1.jpg")
    table = assign_splits(list_images(tmp_path), validation=0.5, test=0.4, seed=0)
    assert {row["label"] for row in table.to_pylist() if row["split"] == "train"} == {0, 1, 2}


def test_the_fingerprint_names_content_and_transform(tmp_path: Path) -> None:
    """Any change of a time stamp, a size, a split, a class name or the transform gives another name; the order of rows does not."""
    listing = list_images(two_classes(tmp_path, 5))
    table = assign_splits(listing, validation=0.2, test=0.2, seed=0)
    first = fingerprint(table, {"size": 28}, listing.classes)
    assert first == fingerprint(table.take(list(range(9, -1, -1))), {"size": 28}, listing.classes)

    (tmp_path / "cat" / "000.jpg").touch()
    touched = assign_splits(list_images(tmp_path), validation=0.2, test=0.2, seed=0)
    others = {
        fingerprint(touched, {"size": 28}, listing.classes),
        fingerprint(table, {"size": 32}, listing.classes),
        fingerprint(table, {"size": 28}, ("cat", "dig")),
        fingerprint(assign_splits(listing, validation=0.2, test=0.2, seed=1), {"size": 28}, listing.classes),
        fingerprint(table.slice(1), {"size": 28}, listing.classes),
    }
    assert len(others | {first}) == 6
