"""The manifest: what a prepared data set holds. It is written last; a folder without one is not prepared."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.durable import read_json
from orchestrator.errors import StorageError

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class StoredImage:
    """What every stored picture looks like."""

    size: int
    """Side in pixels."""
    channels: int
    store: str
    """`original`, `jpeg`, `png` or `raw`."""
    fit: str


@dataclass(frozen=True)
class PixelStatistics:
    """Of the training images, for each channel, on a scale of 0 to 1."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Shard:
    """One file under shards/."""

    name: str
    rows: int
    sha256: str
    split: str


@dataclass(frozen=True)
class Manifest:
    """A prepared data set."""

    fingerprint: str
    recipe: str
    """What was done to the images; other data of the same recipe can be taken over."""
    classes: tuple[str, ...]
    splits: dict[str, int]
    """Rows of each split."""
    rejects: int
    """Images in rejects.parquet."""
    skipped: dict[str, int]
    """Entries of the source that are no images, by the name of the rule."""
    image: StoredImage
    pixels: PixelStatistics
    shards: tuple[Shard, ...]
    """In the order of the units."""
    files: dict[str, str] = field(default_factory=dict)
    """SHA-256 of the other files that belong to the data set: the listing, the rejects, and all unit records together."""

    def to_bytes(self) -> bytes:
        """The content of manifest.json with its own hash; the same data set gives the same bytes."""
        content = asdict(self)
        return (json.dumps(content | {"sha256": _digest(content)}, indent=1, sort_keys=True) + "\n").encode()


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def is_prepared(folder: Path) -> bool:
    return (folder / MANIFEST).is_file()


def read_manifest(folder: Path) -> Manifest:
    """Raises:
    StorageError: There is none, or it is damaged.
    """
    path = folder / MANIFEST
    value = read_json(path)
    try:
        return _from_plain(value)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise StorageError(f"{path} is damaged: {error!r}", f"delete {folder} and run the job again") from error


def _from_plain(value: dict[str, Any]) -> Manifest:
    if _digest({name: entry for name, entry in value.items() if name != "sha256"}) != value["sha256"]:
        raise ValueError("its hash is wrong")
    return Manifest(
        fingerprint=value["fingerprint"],
        recipe=value["recipe"],
        classes=tuple(value["classes"]),
        splits=dict(value["splits"]),
        rejects=value["rejects"],
        skipped=dict(value["skipped"]),
        image=StoredImage(**value["image"]),
        pixels=PixelStatistics(tuple(value["pixels"]["mean"]), tuple(value["pixels"]["std"])),
        shards=tuple(Shard(**shard) for shard in value["shards"]),
        files=dict(value["files"]),
    )
