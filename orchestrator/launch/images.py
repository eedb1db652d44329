"""The images that a job names: listed, split, and known by a fingerprint."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from orchestrator.dataset.fingerprint import fingerprint
from orchestrator.dataset.listing import Listing, list_images
from orchestrator.dataset.splits import assign_splits, read_splits, splits_file
from orchestrator.images.sniff import Header, sniff
from orchestrator.images.version import pixel_versions
from orchestrator.plan.make import DataFacts
from orchestrator.spec.init import FolderFacts
from orchestrator.spec.job import DataSpec

SNIFFED = 200
"""Images whose headers `init` reads to learn their size."""


@dataclass(frozen=True)
class FoundImages:
    """The listing of a job's source, with a split for every image."""

    listing: Listing
    table: pa.Table
    """The listing's columns, every split filled."""
    fingerprint: str
    splits: Path
    """Where the division into splits is remembered."""
    before: pa.Table | None
    """What is remembered there."""

    @property
    def facts(self) -> DataFacts:
        counts = {row["values"]: row["counts"] for row in self.table["split"].value_counts().to_pylist()}
        images = {name: counts[name] for name in ("train", "validation", "test") if name in counts}
        return DataFacts(self.fingerprint, self.listing.classes, images)


def find_images(data: DataSpec, folder: Path) -> FoundImages:
    """List the source and decide the split of every image.

    Args:
        data: What the job says of its images.
        folder: Holds all prepared data, and how images were divided before.

    Raises:
        JobError: The source is missing, empty, or not a folder per class.
        StorageError: What is remembered of the splits is damaged.
    """
    listing = list_images(Path(data.source))
    split = data.split
    splits = splits_file(folder, data.source, split.validation, split.test, split.seed)
    before = read_splits(splits)
    table = assign_splits(listing, validation=split.validation, test=split.test, seed=split.seed, before=before)
    transform = {"image": data.image.model_dump(), "max_pixels": data.max_pixels, "shard_rows": data.shard_rows}
    return FoundImages(listing, table, fingerprint(table, transform | pixel_versions(), listing.classes), splits, before)


def folder_facts(folder: Path) -> FolderFacts:
    """What `init` needs to know of a folder to propose a job."""
    listing = list_images(folder)
    paths = listing.table["path"].to_pylist()
    sampled = paths[:: max(1, len(paths) // SNIFFED)]
    headers = [sniff((folder / Path(path.decode("utf-8", "surrogateescape"))).read_bytes()) for path in sampled]
    sides = [min(header.width, header.height) for header in headers if isinstance(header, Header)]
    splits = tuple(name for name in listing.table["split"].unique().to_pylist() if name)
    return FolderFacts(images=len(paths), classes=len(listing.classes), splits=splits, median_side=int(statistics.median(sides or [224])))
