"""A folder of images per class, on this machine or behind an address; or such folders under train/, validation/ and test/."""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from pyarrow import fs

from orchestrator.dataset.listing import (
    CLASSES_MIN,
    EXTENSIONS,
    ID_BYTES,
    SPLIT_NAMES,
    Listing,
    extension_of,
    make_table,
    printable,
    sample_id,
    source_problem,
    source_problems,
)
from orchestrator.dataset.sources.storage import open_address, patiently, unreadable
from orchestrator.units import format_count

SPLIT_FOLDERS = {name.encode(): split for name, split in SPLIT_NAMES.items()}
LAYOUT = "expected one folder of images per class, for example cat/001.jpg and dog/001.jpg, or such folders under train/ and test/"
DANGLING = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
"""What following a link to nowhere, or to itself, answers."""
SCAN_THREADS = 4
"""Folders read at once: the system waits for disks and networks meanwhile."""


@dataclass(frozen=True)
class _Images:
    """The images directly in one folder."""

    folder: bytes
    """Relative to the source."""
    paths: pa.Array
    ids: pa.Array
    sizes: pa.Array
    mtimes: pa.Array


@dataclass
class _Scanned:
    """What one folder holds."""

    folder: bytes
    names: list[bytes] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    mtimes: list[int] = field(default_factory=list)
    folders: list[bytes] = field(default_factory=list)
    """Relative to the source."""
    skipped: Counter[str] = field(default_factory=Counter)
    extensions: Counter[str] = field(default_factory=Counter)
    """Extensions that are not of images."""

    def skip(self, rule: str) -> None:
        self.skipped[rule] += 1

    def take(self, name: bytes, size: int, mtime_ns: int) -> None:
        self.names.append(name)
        self.sizes.append(size)
        self.mtimes.append(mtime_ns)

    def rule_against_name(self, name: bytes) -> str:
        """The rule by which a file is skipped for its name; empty when there is none."""
        if name.startswith(b"."):
            return "hidden"
        extension = extension_of(name)
        if extension in EXTENSIONS:
            return ""
        self.extensions[printable(extension) or "(none)"] += 1
        return "extension_not_of_an_image"

    def images(self) -> _Images:
        paths = [self.folder + b"/" + name for name in self.names]
        ids = b"".join(map(sample_id, paths, self.sizes))
        return _Images(
            self.folder,
            pa.array(paths, pa.binary()),
            pa.FixedSizeBinaryArray.from_buffers(pa.binary(ID_BYTES), len(paths), [None, pa.py_buffer(ids)]),
            pa.array(self.sizes, pa.int64()),
            pa.array(self.mtimes, pa.int64()),
        )


@dataclass
class _Walk:
    """All that was found."""

    tops: list[bytes] = field(default_factory=list)
    """The folders directly in the source."""
    folders: list[bytes] = field(default_factory=list)
    """Every folder that was entered, relative to the source."""
    images: list[_Images] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    extensions: Counter[str] = field(default_factory=Counter)

    def add(self, scanned: _Scanned) -> None:
        self.folders.append(scanned.folder)
        self.skipped += scanned.skipped
        self.extensions += scanned.extensions
        if scanned.names:
            self.images.append(scanned.images())

    def start(self, tops: list[bytes], strays: _Scanned) -> None:
        self.tops = sorted(tops)
        self.skipped += strays.skipped
        self.extensions += strays.extensions


def list_folder(source: str) -> Listing:
    """List a folder of this machine.

    Raises:
        JobError: It is missing, empty, or has another layout.
        DataError: A folder or a file cannot be read.
    """
    root = os.fsencode(source)
    try:
        if not os.path.isdir(root):
            what = "is not a folder" if os.path.exists(root) else "no such folder"
            raise source_problem(source, what, "name an existing folder of images")
        walk = _walk(root)
    except OSError as error:
        raise unreadable(printable(os.fsencode(error.filename or source)), error) from error
    return _make_listing(source, walk)


def list_bucket(address: str) -> Listing:
    """List a folder behind an address. Storage of that kind knows no links and no other special files.

    Raises:
        JobError: It is missing, empty, or has another layout.
        DataError: It cannot be read, now and some seconds later.
    """
    system, base = open_address(address)
    try:
        entries = patiently(lambda: system.get_file_info(fs.FileSelector(base, recursive=True)), address)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise source_problem(address, "no such folder", "name an existing folder of images") from error
    except OSError as error:
        raise unreadable(address, error) from error
    walk = _Walk()
    scanned = _sort_entries(base, entries)
    walk.start(list({folder.split(b"/")[0] for folder in scanned if folder}), _as_strays(scanned.pop(b"", _Scanned(b""))))
    for folder in sorted(scanned):
        walk.add(scanned[folder])
    return _make_listing(address, walk)


def _sort_entries(base: str, entries: list[fs.FileInfo]) -> dict[bytes, _Scanned]:
    """What each folder holds; a folder inside a hidden one is not there."""
    scanned: dict[bytes, _Scanned] = {}
    start = len(base.rstrip("/")) + 1
    for entry in entries:
        path = os.fsencode(entry.path[start:])
        folder, _, name = path.rpartition(b"/")
        if b"/." in b"/" + folder:
            continue
        if entry.type == fs.FileType.Directory:
            if name.startswith(b"."):
                scanned.setdefault(folder, _Scanned(folder)).skip("hidden")
            else:
                scanned.setdefault(path, _Scanned(path))
            continue
        place = scanned.setdefault(folder, _Scanned(folder))
        rule = place.rule_against_name(name)
        if rule:
            place.skip(rule)
        else:
            place.take(name, entry.size, entry.mtime_ns or 0)
    return scanned


def _as_strays(top: _Scanned) -> _Scanned:
    """Files that lie beside the class folders."""
    hidden, others = top.skipped["hidden"], top.skipped["extension_not_of_an_image"]
    found = {"image_outside_a_class_folder": len(top.names), "not_a_class_folder": others, "hidden": hidden}
    return _Scanned(b"", skipped=Counter({rule: count for rule, count in found.items() if count}), extensions=top.extensions)


def _walk(root: bytes) -> _Walk:
    """Everything below the source; a list and no recursion, because folders may be thousands deep."""
    walk, strays = _Walk(), _Scanned(b"")
    walk.start(_top_folders(root, strays), strays)
    real_root = os.path.realpath(root)
    with ThreadPoolExecutor(SCAN_THREADS) as pool:
        running: set[Future[_Scanned]] = set()
        pending = list(walk.tops)
        try:
            while pending or running:
                running |= {pool.submit(_scan, root, real_root, pending.pop()) for _ in range(min(len(pending), 2 * SCAN_THREADS))}
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    scanned = future.result()
                    pending.extend(scanned.folders)
                    walk.add(scanned)
        finally:
            pool.shutdown(cancel_futures=True)
    return walk


def _top_folders(root: bytes, strays: _Scanned) -> list[bytes]:
    names = []
    for entry in _entries(root):
        if is_link_to_folder(entry):
            strays.skip("symlink_to_folder")
        elif not entry.is_dir(follow_symlinks=False):
            rule = strays.rule_against_name(entry.name)
            hidden = entry.name.startswith(b".")
            strays.skip("not_a_class_folder" if rule or hidden else "image_outside_a_class_folder")
        elif entry.name.startswith(b"."):
            strays.skip("hidden")
        else:
            names.append(entry.name)
    return names


def _entries(folder: bytes) -> Iterator[os.DirEntry[bytes]]:
    with os.scandir(folder) as entries:
        yield from entries


def is_link_to_folder(entry: os.DirEntry[bytes]) -> bool:
    """Such links are not followed: they may lead in circles, and to the same images twice."""
    return entry.is_symlink() and os.path.isdir(entry.path)


def _scan(root: bytes, real_root: bytes, folder: bytes) -> _Scanned:
    scanned = _Scanned(folder)
    for entry in _entries(os.path.join(root, folder)):
        if entry.is_dir(follow_symlinks=False):
            if entry.name.startswith(b"."):
                scanned.skip("hidden")
            else:
                scanned.folders.append(folder + b"/" + entry.name)
            continue
        rule = _rule_against(scanned, entry, real_root)
        if rule:
            scanned.skip(rule)
        else:
            facts = entry.stat()
            scanned.take(entry.name, facts.st_size, facts.st_mtime_ns)
    return scanned


def _rule_against(scanned: _Scanned, entry: os.DirEntry[bytes], real_root: bytes) -> str:
    """The name of the rule by which an entry that is not a folder is skipped; empty when it is taken."""
    if entry.is_symlink() and not entry.name.startswith(b"."):
        if os.path.isdir(entry.path):
            return "symlink_to_folder"
        return scanned.rule_against_name(entry.name) or _rule_against_link(entry, real_root)
    return scanned.rule_against_name(entry.name) or ("" if entry.is_file(follow_symlinks=False) else "not_a_regular_file")


def _rule_against_link(entry: os.DirEntry[bytes], real_root: bytes) -> str:
    target = os.path.realpath(entry.path)
    if not target.startswith(real_root + b"/"):
        return "symlink_outside"
    try:
        return "" if stat.S_ISREG(os.stat(target).st_mode) else "not_a_regular_file"
    except OSError as error:
        if error.errno in DANGLING:
            return "symlink_dangling"
        raise


def _split_folders(tops: list[bytes]) -> dict[bytes, str]:
    """The top folders as splits, when all of them are named as splits and one of them is train."""
    if b"train" in tops and all(name in SPLIT_FOLDERS for name in tops):
        return {name: SPLIT_FOLDERS[name] for name in tops}
    return {}


def _make_listing(source: str, walk: _Walk) -> Listing:
    """The class of an image is the name of the folder that lies `depth` folders below the source."""
    splits = _split_folders(walk.tops)
    depth = 1 if splits else 0
    inside = [images for images in walk.images if images.folder.count(b"/") >= depth]
    outside = sum(len(images.paths) for images in walk.images) - sum(len(images.paths) for images in inside)
    if outside:
        walk.skipped["image_outside_a_class_folder"] += outside
    parts = [images.folder.split(b"/", depth + 1) for images in inside]
    names = sorted({part[depth] for part in parts})
    filled = {b"/".join(part[: depth + 1]) for part in parts}
    empty = sum(folder.count(b"/") == depth and folder not in filled for folder in walk.folders)
    if empty:
        walk.skipped["empty_class_folder"] = empty
    _check_classes(source, walk, names, sum(len(images.paths) for images in inside))
    _check_split_classes(source, parts, splits)
    labels = {name: label for label, name in enumerate(names)}
    counts = [len(images.paths) for images in inside]
    columns = {
        "id": pa.chunked_array([images.ids for images in inside]),
        "path": pa.chunked_array([images.paths for images in inside]),
        "size": pa.chunked_array([images.sizes for images in inside]),
        "mtime_ns": pa.chunked_array([images.mtimes for images in inside]),
        "label": pa.array(np.repeat(np.array([labels[part[depth]] for part in parts], np.int32), counts)),
    }
    if splits:
        order = sorted(set(splits.values()))
        numbers = np.repeat(np.array([order.index(splits[part[0]]) for part in parts], np.int8), counts)
        columns["split"] = pa.array(order, pa.string()).take(pa.array(numbers))
    classes = tuple(printable(name) for name in names)
    return Listing(source, source, classes, make_table(columns), dict(sorted(walk.skipped.items())))


def _check_classes(source: str, walk: _Walk, classes: list[bytes], images: int) -> None:
    if len(classes) >= CLASSES_MIN:
        return
    if classes:
        count = format_count(images, "image")
        what = f"only one class: {printable(classes[0])} with {count}; telling classes apart needs at least two"
        raise source_problem(source, what, LAYOUT)
    if walk.skipped["image_outside_a_class_folder"]:
        count = format_count(walk.skipped["image_outside_a_class_folder"], "image")
        raise source_problem(source, f"{count} lie in no class folder", LAYOUT)
    others = ", ".join(f"{count:,} {extension}" for extension, count in walk.extensions.most_common(3))
    if others:
        next_step = f"{LAYOUT}; files named .jpg, .jpeg, .png, .webp or .bmp are taken"
        raise source_problem(source, f"no images, but these files: {others}", next_step)
    if walk.skipped["symlink_to_folder"]:
        links = format_count(walk.skipped["symlink_to_folder"], "link")
        raise source_problem(source, f"no images, but {links} to folders, which are not followed", "name the folder that holds the images")
    raise source_problem(source, "the folder is empty" if not walk.tops else "all of its folders are empty", LAYOUT)


def _check_split_classes(source: str, parts: list[list[bytes]], splits: dict[bytes, str]) -> None:
    """Raises:
    JobError: A class stands in a split that train/ knows nothing of.
    """
    if not splits:
        return
    known = {part[1] for part in parts if splits[part[0]] == "train"}
    strays = sorted({(part[0], part[1]) for part in parts if part[1] not in known})
    faults = [f"{printable(split)}/{printable(name)} is a class that train/ does not have" for split, name in strays]
    if faults:
        raise source_problems(source, faults, "rename the folder, or add images of that class to train/")
