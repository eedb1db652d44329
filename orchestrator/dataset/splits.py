"""Which images train, which choose the best epoch, which judge."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from orchestrator.dataset.listing import Listing

SPLITS = ("train", "validation", "test")


def assign_splits(listing: Listing, *, validation: float, test: float, seed: int) -> pa.Table:
    """The table of a listing with every split filled.

    Folders named as splits win. A split without a folder takes its share of the training images, class by class, by
    ranking a hash of seed and id: the result does not depend on the order of the listing. Shares round down to whole
    images, and a class always keeps one image for training.
    """
    table = listing.table
    given = table["split"].to_numpy(zero_copy_only=False).astype(object)
    found = set(given.tolist())
    given[given == ""] = "train"
    shares = {"validation": validation, "test": test}
    wanted = {name: share for name, share in shares.items() if name not in found and share > 0}
    if wanted:
        _divide(given, table, wanted, seed)
    return table.set_column(table.schema.get_field_index("split"), "split", pa.array(given.tolist(), pa.string()))


def _divide(splits: NDArray[np.object_], table: pa.Table, shares: dict[str, float], seed: int) -> None:
    """Move the first images of each class, in hash order, from train to the wanted splits."""
    training = np.flatnonzero(splits == "train")
    labels = table["label"].to_numpy()[training]
    ranks = _ranks(table, training, seed)
    order = np.lexsort((ranks, labels))
    starts = np.flatnonzero(np.r_[True, np.diff(labels[order]) != 0])
    for start, end in zip(starts, np.r_[starts[1:], len(order)], strict=True):
        at = start
        for name, share in shares.items():
            count = min(int((end - start) * share + 1e-9), end - at - 1)
            splits[training[order[at : at + count]]] = name
            at += count


def _ranks(table: pa.Table, rows: NDArray[np.int64], seed: int) -> NDArray[np.uint64]:
    """A number for each row that depends on the seed and the id alone."""
    key = hashlib.blake2b(str(seed).encode(), digest_size=16).digest()
    ids = table["id"].take(pa.array(rows)).to_pylist()
    digests = b"".join(hashlib.blake2b(identity, key=key, digest_size=8).digest() for identity in ids)
    return np.frombuffer(digests, np.uint64)
