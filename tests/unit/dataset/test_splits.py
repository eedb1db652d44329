"""An image that was divided once stays where it is."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.dataset.listing import Listing, make_table, sample_id
from orchestrator.dataset.splits import REMEMBERED, assign_splits, read_splits, remember_splits, splits_file
from orchestrator.errors import StorageError


def listing_of(counts: dict[int, int], first: int = 0) -> Listing:
    """`counts[label]` images of each class."""
    rows = [(label, b"%d/%d.png" % (label, first + number)) for label, count in counts.items() for number in range(count)]
    columns = {
        "id": pa.array([sample_id(path, 1) for _, path in rows], pa.binary(16)),
        "path": pa.array([path for _, path in rows], pa.binary()),
        "label": pa.array([label for label, _ in rows], pa.int32()),
    }
    return Listing("/images", "/images", ("a", "b", "c"), make_table(columns), {})


def divided(listing: Listing, before: pa.Table | None = None, **shares: float) -> dict[bytes, str]:
    table = assign_splits(listing, validation=shares.get("validation", 0.2), test=shares.get("test", 0.1), seed=0, before=before)
    return dict(zip(table["id"].to_pylist(), table["split"].to_pylist(), strict=True))


def as_table(splits: dict[bytes, str]) -> pa.Table:
    return pa.table({"id": list(splits), "split": list(splits.values()), "group": [None] * len(splits)}, schema=REMEMBERED)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(st.integers(0, 2), st.integers(0, 60), min_size=1, max_size=3), min_size=2, max_size=4))
def test_adding_images_moves_none(additions: list[dict[int, int]]) -> None:
    """However a collection grows, every image keeps its split, and each class ends with its shares of whole images."""
    total: Counter[int] = Counter()
    before: dict[bytes, str] = {}
    for addition in additions:
        total.update(addition)
        listing = listing_of(dict(total))
        if not listing.table.num_rows:
            continue
        now = divided(listing, as_table(before) if before else None)
        assert {identity: now[identity] for identity in before} == before
        before = now
        labels = listing.table["label"].to_pylist()
        counts = Counter(zip(labels, now.values(), strict=True))
        for label, count in total.items():
            if count:
                assert counts[label, "validation"] == min(int(count * 0.2 + 1e-9), count - 1)
                assert counts[label, "test"] >= int(count * 0.1 + 1e-9) - 1
                assert counts[label, "train"] >= 1


def test_a_removed_image_returns_to_its_split(tmp_path: Path) -> None:
    """What was remembered of an image outlives its absence."""
    whole, part = listing_of({0: 40}), listing_of({0: 20}, first=20)
    first = assign_splits(whole, validation=0.3, test=0.2, seed=0)
    path = tmp_path / "splits.parquet"
    remember_splits(path, first, read_splits(path))
    second = assign_splits(part, validation=0.3, test=0.2, seed=0, before=read_splits(path))
    remember_splits(path, second, read_splits(path))
    third = assign_splits(whole, validation=0.3, test=0.2, seed=0, before=read_splits(path))

    assert third["split"].to_pylist() == first["split"].to_pylist()


def test_what_does_not_change_is_not_written_again(tmp_path: Path) -> None:
    """A second run on the same images leaves the file alone."""
    table = assign_splits(listing_of({0: 10, 1: 10}), validation=0.2, test=0.2, seed=0)
    path = tmp_path / "data" / "splits.parquet"
    remember_splits(path, table, read_splits(path))
    written = path.stat().st_mtime_ns
    remember_splits(path, table, read_splits(path))

    assert path.stat().st_mtime_ns == written


def test_damage_is_named(tmp_path: Path) -> None:
    """A division that cannot be read is never guessed."""
    path = tmp_path / "splits.parquet"
    path.write_bytes(b"PAR1")
    with pytest.raises(StorageError, match="is damaged"):
        read_splits(path)


def test_each_source_and_way_of_dividing_has_its_own_memory(tmp_path: Path) -> None:
    """Other shares, another seed or another source divide anew."""
    files = {splits_file(tmp_path, *key) for key in (("/a", 0.1, 0.1, 0), ("/b", 0.1, 0.1, 0), ("/a", 0.2, 0.1, 0), ("/a", 0.1, 0.1, 1))}

    assert len(files) == 4
