"""The images that a job names: listed, split, and known by a fingerprint."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from orchestrator.dataset.fingerprint import fingerprint, recipe
from orchestrator.dataset.listing import Listing
from orchestrator.dataset.reuse import current
from orchestrator.dataset.sources.find import list_images
from orchestrator.dataset.sources.read import read_images
from orchestrator.dataset.splits import assign_splits, read_splits, splits_file
from orchestrator.dataset.units import ListedImage
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
    recipe: str
    """What is done to the images."""
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
        JobError: The source is missing, empty, or of no known kind.
        StorageError: What is remembered of the splits is damaged.
    """
    listing = list_images(data.source)
    split = data.split
    splits = splits_file(folder, data.source, split.validation, split.test, split.seed)
    before = read_splits(splits)
    table = assign_splits(listing, validation=split.validation, test=split.test, seed=split.seed, before=before)
    transform = transform_of(data)
    name = current(folder, fingerprint(table, transform, listing.classes))
    return FoundImages(listing, table, name, recipe(transform), splits, before)


def transform_of(data: DataSpec) -> dict[str, object]:
    """All that decides what becomes of an image file."""
    limits = {name: getattr(data, name) for name in ("max_pixels", "min_side", "max_aspect", "decode_s")}
    image = data.image.model_dump(exclude={"store_size"}) | {"size": data.image.side}
    return {"image": image, "limits": limits, "shard_rows": data.shard_rows} | pixel_versions()


def folder_facts(folder: Path) -> FolderFacts:
    """What `init` needs to know of a folder to propose a job."""
    listing = list_images(folder)
    table = listing.table
    sampled = table.take(pa.array(range(0, table.num_rows, max(1, table.num_rows // SNIFFED))))
    wanted = [ListedImage(**row) for row in sampled.select(ListedImage.columns()).to_pylist()]
    headers = [sniff(content or b"") for content in read_images(listing.base, wanted)]
    sides = [min(header.width, header.height) for header in headers if isinstance(header, Header)]
    splits = tuple(name for name in table["split"].unique().to_pylist() if name)
    return FolderFacts(
        images=table.num_rows, classes=len(listing.classes), splits=splits, median_side=int(statistics.median(sides or [224]))
    )
