"""Whether everything was durable before it was named, read from the log of a run's system calls."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tracing import Call


def order_faults(calls: Sequence[Call], place: Path) -> list[str]:
    """Files that got their final name, or were named by a unit record or the manifest, before a power cut could no longer undo them.

    A file's content lasts after its fsync, its name after an fsync of its folder.

    Args:
        calls: In their order; of one run, or of several that followed one another.
        place: The folder that was given to the first of them, empty.
    """
    faults: list[str] = []
    folders = {path.parent for call in calls for path in call.paths}
    unsynced: set[Path] = set()
    unnamed: set[Path] = set()
    for call in calls:
        if not (call.succeeded and call.changes(place)):
            continue
        first, last = call.paths[0], call.paths[-1]
        if call.name in ("write", "pwrite64", "ftruncate"):
            unsynced.add(last)
        elif call.name == "fsync":
            unsynced.discard(last)
            unnamed -= {path for path in unnamed if path.parent == last and last in folders}
        elif call.name == "unlink":
            unnamed.discard(last)
        else:
            unnamed.add(last)
        if call.name in ("rename", "link"):
            unnamed.discard(first)
            if first in unsynced:
                faults.append(f"{last} was made visible before its content lasted")
            faults += [f"{last} was made visible before {path} lasted" for path in named_in(last, place) if {path} & (unsynced | unnamed)]
    return faults


def named_in(path: Path, place: Path) -> Iterator[Path]:
    """The files that a record or the manifest names; of the manifest also the folders around them, and those around itself."""
    if path.parent.name == "units":
        shard = json.loads(path.read_bytes())["shard"]
        yield from [path.parents[1] / "shards" / shard] if shard else []
    elif path.name == "manifest.json":
        manifest = json.loads(path.read_bytes())
        names = [*manifest["files"], *(f"shards/{shard['name']}" for shard in manifest["shards"])]
        files = [path.parent / name for name in names]
        yield from files
        yield from folders_around([*files, path], place)


def folders_around(paths: Iterable[Path], place: Path) -> set[Path]:
    return {folder for path in paths for folder in path.parents if place in folder.parents}
