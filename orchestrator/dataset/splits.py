"""Which images train, which choose the best epoch, which judge."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from orchestrator.dataset.listing import FAULTS_SHOWN, Listing, source_problems
from orchestrator.durable import sweep_temporaries, write_atomically
from orchestrator.errors import StorageError

SPLITS = ("train", "validation", "test")
REMEMBERED = pa.schema([("id", pa.binary(16)), ("split", pa.string()), ("group", pa.string())])


def assign_splits(listing: Listing, *, validation: float, test: float, seed: int, before: pa.Table | None = None) -> pa.Table:
    """The table of a listing with every split filled.

    Splits that the source names win. A split that it does not name takes its share of the training images, class by class, by
    ranking a hash of seed and id: the result does not depend on the order of the listing. Shares round down to whole
    images, and a class always keeps one image for training. Images of one group go together; groups that hold images of
    several classes are divided among themselves. An image, or a group, that was divided before stays where it was; new ones
    fill the shares up.

    Args:
        listing: The images.
        validation: Share of each class.
        test: Share of each class.
        seed: Another seed divides new images differently.
        before: Columns `id`, `split` and `group` of images that were divided before, with the same shares and seed.

    Raises:
        JobError: The source puts images of one group into different splits.
    """
    table = listing.table
    given = table["split"].to_numpy(zero_copy_only=False).astype(object)
    found = set(given.tolist())
    given[given == ""] = "train"
    shares = {"validation": validation, "test": test}
    wanted = {name: share for name, share in shares.items() if name not in found and share > 0}
    if wanted:
        training = np.flatnonzero(given == "train")
        groups = _gather(table.take(pa.array(training)), seed, before)
        given[training] = _divide(groups, wanted)[groups.of_row]
    _check_groups(listing, given)
    return table.set_column(table.schema.get_field_index("split"), "split", pa.array(given.tolist(), pa.string()))


@dataclass(frozen=True)
class _Groups:
    """What is divided: groups of images, most of them of one image."""

    of_row: NDArray[np.int64]
    """For each image its group."""
    sizes: NDArray[np.int64]
    strata: NDArray[np.int64]
    """The class of each group; `MIXED` where its images are of several."""
    ranks: NDArray[np.uint64]
    known: NDArray[np.object_]
    """The split of before; empty for new groups."""


MIXED = -1


def _gather(table: pa.Table, seed: int, before: pa.Table | None) -> _Groups:
    """The groups in a table, by seed and by what is known of them."""
    labels = table["label"].to_numpy().astype(np.int64)
    of_row, names = _group_names(table)
    lowest, highest = np.full(len(names), np.iinfo(np.int64).max), np.full(len(names), MIXED)
    np.minimum.at(lowest, of_row, labels)
    np.maximum.at(highest, of_row, labels)
    known = np.full(len(names), "", object)
    if before is not None:
        splits = _known(table, before)
        known[of_row[splits != ""]] = splits[splits != ""]
    return _Groups(of_row, np.bincount(of_row), np.where(lowest == highest, lowest, MIXED), _ranks(names, seed), known)


def _group_names(table: pa.Table) -> tuple[NDArray[np.int64], list[bytes]]:
    """For each image its group, and for each group a name: that of an image without a group is its id."""
    ids, groups = table["id"].to_pylist(), table["group"]
    if groups.null_count == len(groups):
        return np.arange(len(ids)), ids
    keys = [identity if group is None else b"group/" + group.encode() for identity, group in zip(ids, groups.to_pylist(), strict=True)]
    encoded = pa.array(keys, pa.binary()).dictionary_encode()
    return encoded.indices.to_numpy().astype(np.int64), encoded.dictionary.to_pylist()


def _known(table: pa.Table, before: pa.Table) -> NDArray[np.object_]:
    """For each image the split that it, or another image of its group, had before; empty for new ones."""
    by_id = before["split"].combine_chunks().take(pc.index_in(table["id"], before["id"].combine_chunks()).combine_chunks())
    groups = pc.index_in(table["group"], before["group"].combine_chunks().drop_null()).combine_chunks()
    by_group = before.filter(pc.is_valid(before["group"]))["split"].combine_chunks().take(groups)
    known: NDArray[np.object_] = pc.fill_null(pc.coalesce(by_group, by_id), "").to_numpy(zero_copy_only=False)
    return known


def _divide(groups: _Groups, shares: dict[str, float]) -> NDArray[np.object_]:
    """The split of each group: those of before where they were, then new ones in the order of their ranks."""
    splits = np.full(len(groups.sizes), "train", object)
    order = np.lexsort((groups.ranks, groups.strata))
    starts = np.flatnonzero(np.r_[True, np.diff(groups.strata[order]) != 0])
    for start, end in zip(starts, np.r_[starts[1:], len(order)], strict=True):
        members = order[start:end]
        sizes, known = groups.sizes[members], groups.known[members]
        total = int(sizes.sum())
        for name in shares:
            splits[members[known == name]] = name
        for name, share in shares.items():
            free = members[(known == "") & (splits[members] == "train")]
            missing = int(total * share + 1e-9) - int(sizes[splits[members] == name].sum())
            rest = int(sizes[splits[members] == "train"].sum())
            splits[free[_taken(groups.sizes[free], missing, rest)]] = name
    return splits


def _taken(sizes: NDArray[np.int64], missing: int, rest: int) -> NDArray[np.bool_]:
    """Which groups, in their order, make up `missing` images and no more, and leave at least one of the `rest` images."""
    if sizes.max(initial=1) == 1:
        return np.arange(len(sizes)) < min(missing, rest - 1)
    taken = np.zeros(len(sizes), np.bool_)
    for place, size in enumerate(sizes.tolist()):
        if size <= missing and size < rest:
            taken[place] = True
            missing, rest = missing - size, rest - size
    return taken


def _check_groups(listing: Listing, splits: NDArray[np.object_]) -> None:
    """Raises:
    JobError: A group is on both sides of a split.
    """
    groups = listing.table["group"]
    if groups.null_count == len(groups):
        return
    pairs = pa.table({"group": groups, "split": pa.array(splits.tolist(), pa.string())}).filter(pc.is_valid(groups))
    counts = pairs.group_by("group").aggregate([("split", "count_distinct")])
    torn = counts.filter(pc.greater(counts["split_count_distinct"], 1))["group"].to_pylist()
    if torn:
        faults = [f"the group {name} is in more than one split" for name in sorted(torn)[:FAULTS_SHOWN]]
        raise source_problems(listing.source, faults, "put each group into one split, or leave the column split out")


def splits_file(data: Path, source: str, validation: float, test: float, seed: int) -> Path:
    """Where the division of a source is remembered: one file for each source and way of dividing it."""
    key = hashlib.sha256(json.dumps([source, validation, test, seed]).encode()).hexdigest()[:12]
    return data / f"splits-{key}.parquet"


def read_splits(path: Path) -> pa.Table | None:
    """How images were divided before; None when they were not.

    Raises:
        StorageError: The file is damaged.
    """
    try:
        return pq.read_table(path, schema=REMEMBERED, page_checksum_verification=True)
    except FileNotFoundError:
        return None
    except (OSError, pa.ArrowException) as error:
        raise StorageError(f"{path} is damaged: {error}", "delete it; images will be divided anew") from error


def remember_splits(path: Path, table: pa.Table, before: pa.Table | None) -> None:
    """Write down the split of every image, also of those that are gone and may come back.

    Raises:
        StorageError: The storage is full or does not take the file.
    """
    now = table.select(REMEMBERED.names).cast(REMEMBERED)
    if before is not None:
        gone = before.filter(pc.invert(pc.is_in(before["id"], now["id"].combine_chunks())))
        if gone.num_rows + now.num_rows == before.num_rows:
            return
        now = pa.concat_tables([now, gone])
    sink = pa.BufferOutputStream()
    pq.write_table(now.sort_by("id"), sink, write_page_checksum=True)
    write_atomically(path, memoryview(sink.getvalue()))
    sweep_temporaries(path.parent)


def _ranks(names: list[bytes], seed: int) -> NDArray[np.uint64]:
    """A number for each name that depends on the seed and the name alone."""
    key = hashlib.blake2b(str(seed).encode(), digest_size=16).digest()
    return np.frombuffer(b"".join(hashlib.blake2b(name, key=key, digest_size=8).digest() for name in names), np.uint64)
