"""Which kind of source a path or an address is, and its listing."""

from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc

from orchestrator.dataset.listing import FAULTS_SHOWN, Listing, printable, source_problem, source_problems
from orchestrator.dataset.sources.archives import list_archives
from orchestrator.dataset.sources.folders import list_bucket, list_folder
from orchestrator.dataset.sources.manifests import list_manifest
from orchestrator.dataset.sources.parts import find_parts
from orchestrator.dataset.sources.rows import holds_images, list_rows
from orchestrator.dataset.sources.storage import is_address

MANIFESTS = (".csv", ".tsv", ".jsonl", ".ndjson")
PARQUET, ARCHIVE = ".parquet", ".tar"
KINDS = "a folder of images, a manifest (.csv, .tsv, .jsonl, .parquet), Parquet files with images, or .tar files of a WebDataset"


def list_images(source: Path | str) -> Listing:
    """List a source of any kind.

    Args:
        source: A folder with one folder of images per class, or such folders under train/, validation/ and test/; a manifest;
            Parquet files or tar files that hold images: one of them, a pattern, or a folder of nothing else.

    Raises:
        JobError: It is missing, empty, or of no known kind.
        DataError: It cannot be read.
    """
    listing = _list(str(source))
    _check_ids(listing)
    return listing


def _check_ids(listing: Listing) -> None:
    """Raises:
    JobError: Two images have the same id.
    """
    ids = listing.table["id"]
    if pc.count_distinct(ids).as_py() == len(ids):
        return
    counts = listing.table.group_by("id").aggregate([("path", "list")])
    twins = [paths for paths in counts["path_list"].to_pylist() if len(paths) > 1]
    faults = [f"{printable(paths[0])} and {printable(paths[1])} have the same id" for paths in twins[:FAULTS_SHOWN]]
    raise source_problems(listing.source, faults, "give each image an id of its own, or leave the column out")


def _list(source: str) -> Listing:
    name = source.partition("?")[0].lower() if is_address(source) else source.lower()
    if name.endswith(MANIFESTS):
        return list_manifest(source)
    if name.endswith(PARQUET):
        return _list_parquet(source)
    if name.endswith(ARCHIVE):
        return list_archives(source, _found(source, ARCHIVE))
    if is_address(source):
        return _list_address(source)
    if Path(source).is_file():
        raise source_problem(source, "is not a folder, and no kind of file that holds or names images", f"name {KINDS}")
    for extension, list_parts in ((PARQUET, list_rows), (ARCHIVE, list_archives)):
        parts = _parts_at_the_top(Path(source), extension)
        if parts:
            return list_parts(source, parts)
    return list_folder(source)


def _list_address(source: str) -> Listing:
    for extension, list_parts in ((PARQUET, list_rows), (ARCHIVE, list_archives)):
        parts = find_parts(source, extension)
        if parts != [source] and parts:
            return list_parts(source, parts)
    return list_bucket(source)


def _parts_at_the_top(folder: Path, extension: str) -> list[str]:
    """All such files of a folder that has some directly in it, or in its folders; a folder per class has none there."""
    if not folder.is_dir() or not any(True for depth in ("*", "*/*") for _ in folder.glob(depth + extension)):
        return []
    return find_parts(str(folder), extension)


def _list_parquet(source: str) -> Listing:
    parts = _found(source, PARQUET)
    return list_rows(source, parts) if len(parts) > 1 or holds_images(parts[0]) else list_manifest(source)


def _found(source: str, extension: str) -> list[str]:
    parts = find_parts(source, extension)
    if not parts:
        raise source_problem(source, "no file has such a name", f"name {KINDS}")
    return parts
