"""Sources that are several files of many images each: the files, and the split that the name of each one tells."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path

from pyarrow import fs

from orchestrator.dataset.listing import SPLIT_NAMES
from orchestrator.dataset.sources.storage import folder_of, is_address, open_address, patiently

RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
"""`{000..017}`, as WebDataset writes it."""
WORDS = re.compile(r"[^A-Za-z]+")


def find_parts(source: str, extension: str) -> list[str]:
    """The files of a source: a file itself, all that a pattern with `*` or `{000..017}` names, or all below a folder; sorted.

    Hidden files, and files in hidden folders, are no parts.
    """
    expanded = expand_range(source)
    if len(expanded) > 1:
        return [part for one in expanded for part in find_parts(one, extension)]
    if is_address(source):
        return _find_objects(source, extension)
    if "*" in source:
        return sorted(path for path in glob.glob(source, recursive=True) if path.endswith(extension))
    path = Path(source)
    if not path.is_dir():
        return [source]
    return sorted(str(found) for found in path.rglob(f"*{extension}") if not is_hidden(str(found.relative_to(path))))


def expand_range(source: str) -> list[str]:
    """`a-{08..10}.tar` is `a-08.tar`, `a-09.tar`, `a-10.tar`."""
    found = RANGE.search(source)
    if found is None:
        return [source]
    first, last = found.groups()
    before, after = source[: found.start()], source[found.end() :]
    return [part for number in range(int(first), int(last) + 1) for part in expand_range(f"{before}{number:0{len(first)}d}{after}")]


def _find_objects(source: str, extension: str) -> list[str]:
    start, mark, options = source.partition("?")
    system, path = open_address(source)
    folder = path.partition("*")[0].rpartition("/")[0] if "*" in path else path
    if "*" not in path and patiently(lambda: system.get_file_info(path), source).type != fs.FileType.Directory:
        return [source]
    entries = patiently(lambda: system.get_file_info(fs.FileSelector(folder, recursive=True)), source)
    wanted = re.compile(re.escape(path).replace(r"\*", "[^/]*") if "*" in path else re.escape(f"{path.rstrip('/')}/") + ".*")
    names = [entry.path for entry in entries if entry.type == fs.FileType.File and entry.path.endswith(extension)]
    before = start.removesuffix(path)
    return sorted(f"{before}{name}{mark}{options}" for name in names if wanted.fullmatch(name) and not is_hidden(name[len(folder) :]))


def is_hidden(path: str) -> bool:
    """Whether a part of the path begins with a dot."""
    return "/." in f"/{path.lstrip('/')}"


def base_of(source: str, parts: Sequence[str]) -> str:
    """The folder that the parts are seen from."""
    pattern = source.partition("*")[0].partition("{")[0]
    return folder_of(pattern) if pattern != source or list(parts) == [source] else source


def relative_to(base: str, part: str) -> bytes:
    """A part as seen from its base."""
    start = base.partition("?")[0].rstrip("/") if is_address(base) else base.rstrip("/")
    plain = part.partition("?")[0] if is_address(part) else part
    return os.fsencode(plain.removeprefix(f"{start}/"))


def splits_of(parts: Sequence[bytes]) -> list[str]:
    """The split of each part, where every name has one and one of them is train: `train-00000-of-00012.parquet`, `val/000.tar`."""
    found = [_split_of(os.fsdecode(part)) for part in parts]
    return found if "train" in found and all(found) else [""] * len(parts)


def _split_of(part: str) -> str:
    return next((SPLIT_NAMES[word] for word in WORDS.split(part.lower()) if word in SPLIT_NAMES), "")
