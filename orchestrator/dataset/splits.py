"""Which images train, which choose the best epoch, which judge."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from orchestrator.dataset.listing import Listing
from orchestrator.durable import write_atomically
from orchestrator.errors import StorageError

SPLITS = ("train", "validation", "test")
REMEMBERED = pa.schema([("id", pa.binary(16)), ("split", pa.string())])


def assign_splits(listing: Listing, *, validation: float, test: float, seed: int, before: pa.Table | None = None) -> pa.Table:
    """The table of a listing with every split filled.

    Folders named as splits win. A split without a folder takes its share of the training images, class by class, by
    ranking a hash of seed and id: the result does not depend on the order of the listing. Shares round down to whole
    images, and a class always keeps one image for training. An image that was divided before stays where it was; new ones
    fill the shares up.

    Args:
        listing: The images.
        validation: Share of each class.
        test: Share of each class.
        seed: Another seed divides new images differently.
        before: Columns `id` and `split` of images that were divided before, with the same shares and seed.
    """
    table = listing.table
    given = table["split"].to_numpy(zero_copy_only=False).astype(object)
    found = set(given.tolist())
    given[given == ""] = "train"
    shares = {"validation": validation, "test": test}
    wanted = {name: share for name, share in shares.items() if name not in found and share > 0}
    if wanted:
        _divide(given, table, wanted, seed, _known(table, before))
    return table.set_column(table.schema.get_field_index("split"), "split", pa.array(given.tolist(), pa.string()))


def _known(table: pa.Table, before: pa.Table | None) -> NDArray[np.object_]:
    """For each image its split of before, empty for new ones."""
    if before is None:
        return np.full(table.num_rows, "", object)
    places = pc.index_in(table["id"], before["id"].combine_chunks())
    known: NDArray[np.object_] = pc.fill_null(before["split"].combine_chunks().take(places), "").to_numpy(zero_copy_only=False)
    return known


def _divide(splits: NDArray[np.object_], table: pa.Table, shares: dict[str, float], seed: int, known: NDArray[np.object_]) -> None:
    """Move images of each class from train to the wanted splits: those that were there before, then new ones in hash order."""
    training = np.flatnonzero(splits == "train")
    labels = table["label"].to_numpy()[training]
    order = training[np.lexsort((_ranks(table, training, seed), labels))]
    ordered = table["label"].to_numpy()[order]
    starts = np.flatnonzero(np.r_[True, np.diff(ordered) != 0])
    for start, end in zip(starts, np.r_[starts[1:], len(order)], strict=True):
        rows = order[start:end]
        for name in shares:
            splits[rows[known[rows] == name]] = name
        free = rows[known[rows] == ""]
        for name, share in shares.items():
            most = max(0, int((splits[rows] == "train").sum()) - 1)
            missing = max(0, int(len(rows) * share + 1e-9) - int((splits[rows] == name).sum()))
            taken, free = np.split(free, [min(missing, most, len(free))])
            splits[taken] = name


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
    now = table.select(["id", "split"]).cast(REMEMBERED)
    if before is not None:
        gone = before.filter(pc.invert(pc.is_in(before["id"], now["id"].combine_chunks())))
        if gone.num_rows + now.num_rows == before.num_rows:
            return
        now = pa.concat_tables([now, gone])
    sink = pa.BufferOutputStream()
    pq.write_table(now.sort_by("id"), sink, write_page_checksum=True)
    write_atomically(path, memoryview(sink.getvalue()))


def _ranks(table: pa.Table, rows: NDArray[np.int64], seed: int) -> NDArray[np.uint64]:
    """A number for each row that depends on the seed and the id alone."""
    key = hashlib.blake2b(str(seed).encode(), digest_size=16).digest()
    ids = table["id"].take(pa.array(rows)).to_pylist()
    digests = b"".join(hashlib.blake2b(identity, key=key, digest_size=8).digest() for identity in ids)
    return np.frombuffer(digests, np.uint64)
