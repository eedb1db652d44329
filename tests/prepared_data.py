"""What must hold of prepared data after any accident, read from the files themselves and not from what the program counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pyarrow.parquet as pq

from orchestrator.dataset.manifest import read_manifest
from orchestrator.dataset.sources.find import list_images
from orchestrator.dataset.verify import data_faults


def faults_of_whole(root: Path, source: Path, manifest: bytes) -> list[str]:
    """What is wrong with the only prepared data below `root`, which an undisturbed run prepares as `manifest` says."""
    faults = [f"{path} was left" for path in root.rglob(".*.tmp")]
    found = list(root.rglob("manifest.json"))
    if len(found) != 1:
        return [*faults, f"{len(found)} manifests"]
    (path,) = found
    if path.read_bytes() != manifest:
        faults.append(f"{path} is not that of an undisturbed run")
    return faults + data_faults(path.parent) + unaccounted(path.parent, source, (path.parent / "shards").iterdir())


def faults_of_visible(root: Path, source: Path) -> list[str]:
    """What a reader that comes at any moment would miss: nothing without a manifest, and with one every row of it."""
    faults = []
    for path in root.rglob("manifest.json"):
        data = path.parent
        named = [data / "shards" / shard.name for shard in read_manifest(data).shards]
        faults += [fault for fault in data_faults(data) if "belongs to no data set" not in fault] + unaccounted(data, source, named)
    return faults


def unaccounted(data: Path, source: Path, shards: Iterable[Path]) -> list[str]:
    """Images that are not exactly once in the shards and the rejects."""
    listed = Counter(identity.hex() for identity in list_images(source).table["id"].to_pylist())
    tables = [*shards, data / "rejects.parquet"]
    kept = Counter(identity for path in tables for identity in pq.read_table(path, columns=["id"])["id"].to_pylist())
    wrong = [identity for identity in listed | kept if listed[identity] != kept[identity]]
    return [f"{identity} is listed {listed[identity]} times and kept {kept[identity]} times" for identity in wrong]
