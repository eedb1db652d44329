"""Every entry of a folder of images: taken, or skipped by a named rule. Paths are bytes, because file names are."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from orchestrator.errors import DataError, JobError, Problem
from orchestrator.units import format_count

EXTENSIONS = frozenset({b".jpg", b".jpeg", b".png", b".webp", b".bmp"})
SPLIT_FOLDERS = {b"train": "train", b"validation": "validation", b"val": "validation", b"test": "test"}
LAYOUT = "expected one folder of images per class, for example cat/001.jpg and dog/001.jpg, or such folders under train/ and test/"
CLASSES_MIN = 2
DANGLING = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
"""What following a link to nowhere, or to itself, answers."""

SCHEMA = pa.schema(
    [
        ("id", pa.binary(16)),  # hash of path and size
        ("path", pa.binary()),  # relative to the source
        ("size", pa.int64()),  # bytes
        ("mtime_ns", pa.int64()),
        ("label", pa.int32()),
        ("split", pa.string()),  # empty where the source does not say
    ]
)


@dataclass(frozen=True)
class Listing:
    """What a source holds."""

    source: Path
    classes: tuple[str, ...]
    table: pa.Table
    """One row an image, with the columns of `SCHEMA`, sorted by path."""
    skipped: dict[str, int]
    """Entries left out, by the name of the rule."""


@dataclass
class _Walk:
    """What is found on the way."""

    root: bytes
    paths: list[bytes] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    mtimes: list[int] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    folders: list[bytes] = field(default_factory=list)
    """Every folder that was entered, relative to the source."""
    extensions: Counter[str] = field(default_factory=Counter)
    """Extensions that are not of images."""

    def take(self, entry: os.DirEntry[bytes], relative: bytes) -> None:
        rule = self._rule_against(entry)
        if rule:
            self.skipped[rule] += 1
            return
        facts = entry.stat()
        self.paths.append(relative)
        self.sizes.append(facts.st_size)
        self.mtimes.append(facts.st_mtime_ns)

    def _rule_against(self, entry: os.DirEntry[bytes]) -> str:
        """The name of the rule by which an entry that is not a folder is skipped; empty when it is taken."""
        if entry.name.startswith(b"."):
            return "hidden"
        if is_link_to_folder(entry):
            return "symlink_to_folder"
        extension = os.path.splitext(entry.name)[1].lower()
        if extension not in EXTENSIONS:
            self.extensions[printable(extension) or "(none)"] += 1
            return "extension_not_of_an_image"
        if entry.is_symlink():
            return self._rule_against_link(entry)
        return "" if entry.is_file(follow_symlinks=False) else "not_a_regular_file"

    def _rule_against_link(self, entry: os.DirEntry[bytes]) -> str:
        target = os.path.realpath(entry.path)
        if not target.startswith(self.root + b"/"):
            return "symlink_outside"
        try:
            return "" if stat.S_ISREG(os.stat(target).st_mode) else "not_a_regular_file"
        except OSError as error:
            if error.errno in DANGLING:
                return "symlink_dangling"
            raise


def list_images(source: Path) -> Listing:
    """List a folder per class, or such folders under train/, validation/ and test/.

    Raises:
        JobError: The source is missing, empty, or has another layout.
        DataError: A folder or a file cannot be read.
    """
    root = os.fsencode(source)
    try:
        if not source.is_dir():
            what = "is not a folder" if source.exists() else "no such folder"
            raise _problem(source, what, "name an existing folder of images")
        walk = _Walk(os.path.realpath(root))
        tops = _folders(root, walk)
        _walk_folders(walk, root, tops)
    except OSError as error:
        place = printable(os.fsencode(error.filename))
        raise DataError(f"cannot read {place}: {error.strerror}", "make it readable; nothing is left out in silence") from error
    return _make_listing(source, walk, tops, _split_folders(tops))


def _folders(folder: bytes, walk: _Walk) -> list[bytes]:
    """Names of the folders in `folder`; other entries are skipped by a rule."""
    names = []
    for entry in _scan(folder):
        if is_link_to_folder(entry):
            walk.skipped["symlink_to_folder"] += 1
        elif not entry.is_dir(follow_symlinks=False):
            extension = os.path.splitext(entry.name)[1].lower()
            walk.skipped["image_outside_a_class_folder" if extension in EXTENSIONS else "not_a_class_folder"] += 1
            if extension not in EXTENSIONS:
                walk.extensions[printable(extension) or "(none)"] += 1
        elif entry.name.startswith(b"."):
            walk.skipped["hidden"] += 1
        else:
            names.append(entry.name)
    return sorted(names)


def _scan(folder: bytes) -> Iterator[os.DirEntry[bytes]]:
    with os.scandir(folder) as entries:
        yield from entries


def is_link_to_folder(entry: os.DirEntry[bytes]) -> bool:
    """Such links are not followed: they may lead in circles, and to the same images twice."""
    return entry.is_symlink() and os.path.isdir(entry.path)


def _walk_folders(walk: _Walk, root: bytes, tops: list[bytes]) -> None:
    """Everything below the top folders; a list and no recursion, because folders may be thousands deep."""
    pending = list(tops)
    while pending:
        folder = pending.pop()
        walk.folders.append(folder)
        for entry in _scan(os.path.join(root, folder)):
            place = folder + b"/" + entry.name
            if not entry.is_dir(follow_symlinks=False):
                walk.take(entry, place)
            elif entry.name.startswith(b"."):
                walk.skipped["hidden"] += 1
            else:
                pending.append(place)


def _split_folders(tops: list[bytes]) -> dict[bytes, str]:
    """The top folders as splits, when all of them are named as splits and one of them is train."""
    if b"train" in tops and all(name in SPLIT_FOLDERS for name in tops):
        return {name: SPLIT_FOLDERS[name] for name in tops}
    return {}


def _make_listing(source: Path, walk: _Walk, tops: list[bytes], splits: dict[bytes, str]) -> Listing:
    depth = 1 if splits else 0
    order = sorted(range(len(walk.paths)), key=walk.paths.__getitem__)
    paths = [walk.paths[at] for at in order]
    parts = [path.split(b"/", depth + 1) for path in paths]
    if any(len(part) < depth + 2 for part in parts):
        parts = [part for part in parts if len(part) >= depth + 2]
        walk.skipped["image_outside_a_class_folder"] += len(paths) - len(parts)
        order = [at for at in order if walk.paths[at].count(b"/") > depth]
        paths = [walk.paths[at] for at in order]
    folders = sorted({part[depth] for part in parts})
    _note_empty_class_folders(walk, {b"/".join(part[: depth + 1]) for part in parts}, depth)
    _check_classes(source, walk, tops, folders)
    if splits:
        _check_split_classes(source, parts, splits)
    labels = {name: label for label, name in enumerate(folders)}
    sizes = [walk.sizes[at] for at in order]
    columns = [
        pa.array([sample_id(path, size) for path, size in zip(paths, sizes, strict=True)], pa.binary(16)),
        pa.array(paths, pa.binary()),
        pa.array(sizes, pa.int64()),
        pa.array([walk.mtimes[at] for at in order], pa.int64()),
        pa.array(np.fromiter((labels[part[depth]] for part in parts), np.int32, len(parts))),
        pa.array([splits[part[0]] if splits else "" for part in parts], pa.string()),
    ]
    classes = tuple(printable(name) for name in folders)
    return Listing(source, classes, pa.Table.from_arrays(columns, schema=SCHEMA), dict(sorted(walk.skipped.items())))


def _note_empty_class_folders(walk: _Walk, filled: set[bytes], depth: int) -> None:
    empty = sum(folder.count(b"/") == depth and folder not in filled for folder in walk.folders)
    if empty:
        walk.skipped["empty_class_folder"] = empty


def sample_id(path: bytes, size: int) -> bytes:
    """16 bytes that name an image: BLAKE2b of its relative path and its size."""
    return hashlib.blake2b(path + b"\0%d" % size, digest_size=16).digest()


def printable(name: bytes) -> str:
    """A file name as text; bytes that are not UTF-8 are written as escapes."""
    return name.decode("utf-8", "backslashreplace")


def _check_classes(source: Path, walk: _Walk, tops: list[bytes], classes: list[bytes]) -> None:
    if len(classes) >= CLASSES_MIN:
        return
    if classes:
        count = format_count(len(walk.paths), "image")
        raise _problem(source, f"only one class: {printable(classes[0])} with {count}; telling classes apart needs at least two", LAYOUT)
    if walk.skipped["image_outside_a_class_folder"]:
        count = format_count(walk.skipped["image_outside_a_class_folder"], "image")
        raise _problem(source, f"{count} lie in no class folder", LAYOUT)
    others = ", ".join(f"{count:,} {extension}" for extension, count in walk.extensions.most_common(3))
    if others:
        raise _problem(source, f"no images, but these files: {others}", f"{LAYOUT}; files named .jpg, .jpeg, .png, .webp or .bmp are taken")
    if walk.skipped["symlink_to_folder"]:
        links = format_count(walk.skipped["symlink_to_folder"], "link")
        raise _problem(source, f"no images, but {links} to folders, which are not followed", "name the folder that holds the images itself")
    raise _problem(source, "the folder is empty" if not tops else "all of its folders are empty", LAYOUT)


def _check_split_classes(source: Path, parts: list[list[bytes]], splits: dict[bytes, str]) -> None:
    known = {part[1] for part in parts if splits[part[0]] == "train"}
    strays = sorted({(part[0], part[1]) for part in parts if part[1] not in known})
    if strays:
        problems = tuple(
            Problem(str(source), f"{printable(split)}/{printable(name)} is a class that train/ does not have") for split, name in strays
        )
        raise JobError(problems, "rename the folder, or add images of that class to train/")


def _problem(source: Path, what: str, next_step: str) -> JobError:
    return JobError((Problem(str(source), what),), next_step)
