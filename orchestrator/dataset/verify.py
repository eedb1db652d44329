"""Whether prepared data is still what was committed: every file there, every bit as it was written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from orchestrator.dataset.commit import REJECTS
from orchestrator.dataset.health import HEALTH, measure_health
from orchestrator.dataset.manifest import Manifest, read_manifest
from orchestrator.dataset.shards import SHARDS
from orchestrator.dataset.units import LISTING
from orchestrator.errors import StorageError


def data_faults(data: Path) -> list[str]:
    """What is damaged, missing or too much, one line each; empty for sound data."""
    try:
        manifest = read_manifest(data)
    except StorageError as error:
        return [error.message]
    faults = [*_file_faults(data, manifest), *_shard_faults(data, manifest)]
    return faults or list(_health_faults(data, manifest))


def _file_faults(data: Path, manifest: Manifest) -> Iterator[str]:
    for name in (LISTING, REJECTS):
        if name not in manifest.files:
            yield f"{data / 'manifest.json'} does not name {name}"
        else:
            yield from file_faults(data / name, manifest.files[name])


def _shard_faults(data: Path, manifest: Manifest) -> Iterator[str]:
    for shard in manifest.shards:
        yield from file_faults(data / SHARDS / shard.name, shard.sha256)
    named = {shard.name for shard in manifest.shards}
    for path in sorted((data / SHARDS).glob("*")):
        if path.name not in named:
            yield f"{path} belongs to no data set"


def _health_faults(data: Path, manifest: Manifest) -> Iterator[str]:
    """Sound shards give the same findings again."""
    path = data / HEALTH
    if not path.is_file():
        return
    try:
        stored = json.loads(path.read_bytes())
    except ValueError:
        stored = None
    if stored != json.loads(json.dumps(measure_health(data, manifest))):
        yield f"{path} is damaged: the shards say something else"


def file_faults(path: Path, sha256: str) -> Iterator[str]:
    """Whether a file is there and has its hash."""
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        yield f"{path} is missing"
        return
    except OSError as error:
        yield f"{path} cannot be read: {error.strerror}"
        return
    if found != sha256:
        yield f"{path} is damaged: its content has another hash"
