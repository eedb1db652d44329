"""What was prepared once of a collection is taken over when the collection changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from orchestrator.dataset.commit import Reject, UnitRecord, commit, completed_units, write_unit_record
from orchestrator.dataset.listing import make_table, sample_id
from orchestrator.dataset.manifest import Manifest, StoredImage
from orchestrator.dataset.reuse import NOTHING, SMALL_MAX, current, find_reusable, retried, supersede, take_over
from orchestrator.dataset.units import Unit, lay_out, read_listing, units_of, write_listing
from orchestrator.errors import StorageError

IMAGE = StoredImage(size=4, channels=1, store="raw", fit="crop")


def listing_of(numbers: Sequence[int], changed: Sequence[int] = ()) -> pa.Table:
    paths = [b"%d.png" % number for number in numbers]
    return make_table(
        {
            "id": pa.array([sample_id(path, 1) for path in paths], pa.binary(16)),
            "path": pa.array(paths, pa.binary()),
            "size": pa.array([1] * len(paths), pa.int64()),
            "mtime_ns": pa.array([int(number in changed) for number in numbers], pa.int64()),
            "label": pa.array([number % 2 for number in numbers], pa.int32()),
            "split": pa.array(["test" if number % 10 == 0 else "train" for number in numbers]),
        }
    )


def prepare(folder: Path, table: pa.Table, name: str, unit_rows: int = 20, *, rejected: int = -1) -> tuple[Manifest, int]:
    """The data of a listing as prepare leaves it, without pixels; and how many images had to be read."""
    reuse = find_reusable(folder, table, recipe="r", unit_rows=unit_rows)
    laid_out = lay_out(table, unit_rows, [unit.rows for unit in reuse.units])
    units, data = units_of(laid_out), folder / name
    write_listing(data, laid_out)
    take_over(reuse, data, units, laid_out)
    records = completed_units(data, units)
    read = 0
    for unit in units:
        if unit.index not in records:
            records[unit.index] = prepare_unit(data, laid_out, unit, rejected)
            read += unit.stop - unit.start
    arguments = {"classes": ("a", "b"), "units": units, "records": records, "skipped": {}, "image": IMAGE}
    return commit(data, fingerprint=name, recipe="r", **arguments), read


def prepare_unit(data: Path, table: pa.Table, unit: Unit, rejected: int) -> UnitRecord:
    ids = [identity.hex() for identity in table["id"][unit.start : unit.stop].to_pylist()]
    content = ",".join(ids).encode()
    shard = data / "shards" / f"{ids[0]}.parquet"
    shard.parent.mkdir(exist_ok=True)
    shard.write_bytes(content)
    bad = [identity for identity in ids if identity == sample_id(b"%d.png" % rejected, 1).hex()]
    rejects = tuple(Reject(identity, "", 1, "", "corrupt", "") for identity in bad)
    listed, rows = unit.stop - unit.start, unit.stop - unit.start - len(bad)
    record = UnitRecord(unit.index, unit.split, listed, shard.name, rows, len(content), "0" * 64, rejects, rows, (0,), (0,))
    write_unit_record(data, record)
    return record


def prepared_ids(folder: Path, name: str) -> list[str]:
    laid_out = read_listing(folder / name)
    assert laid_out is not None
    records = completed_units(folder / name, units_of(laid_out))
    return [
        identity for number in sorted(records) for identity in (folder / name / "shards" / records[number].shard).read_text().split(",")
    ]


def test_adding_one_percent_prepares_one_percent(tmp_path: Path) -> None:
    """A thousand images and ten new ones: ten are read, and every image is there once, in its split."""
    prepare(tmp_path, listing_of(range(1000)), "first")
    manifest, read = prepare(tmp_path, listing_of(range(1010)), "second")
    ids = prepared_ids(tmp_path, "second")

    assert read == 10
    assert sum(manifest.splits.values()) == len(ids) == len(set(ids)) == 1010
    assert manifest.splits["test"] == 101


def test_removed_and_changed_images_cost_their_units(tmp_path: Path) -> None:
    """The other units stay; the neighbours of a changed image are prepared again with it."""
    prepare(tmp_path, listing_of(range(1000)), "first")
    table = listing_of([number for number in range(1000) if number != 17], changed=[33])
    manifest, read = prepare(tmp_path, table, "second")
    ids = prepared_ids(tmp_path, "second")

    assert read in (19, 39)
    assert len(ids) == len(set(ids)) == sum(manifest.splits.values()) == 999


def test_the_layout_on_disk_is_that_of_the_units(tmp_path: Path) -> None:
    """A start that was killed finds the layout that it had decided on."""
    table = listing_of(range(500))
    prepare(tmp_path, listing_of(range(300)), "first")
    prepare(tmp_path, table, "second")
    stored = read_listing(tmp_path / "second")

    assert stored is not None
    assert stored.num_rows == 500
    assert pc.all(pc.is_in(stored["id"], table["id"].combine_chunks())).as_py()
    assert {split for unit in units_of(stored) for split in stored["split"][unit.start : unit.stop].to_pylist()} == {"train", "test"}
    for unit in units_of(stored):
        assert set(stored["split"][unit.start : unit.stop].to_pylist()) == {unit.split}


def test_crumbs_are_gathered(tmp_path: Path) -> None:
    """A collection that grows by three images a day does not end with a shard for every day."""
    prepare(tmp_path, listing_of(range(100)), "day0")
    for day in range(1, 31):
        _, read = prepare(tmp_path, listing_of(range(100 + 3 * day)), f"day{day}")
        assert read <= 3 + (SMALL_MAX + 1) * 3 * 2
    laid_out = read_listing(tmp_path / "day30")
    assert laid_out is not None
    assert len(units_of(laid_out)) <= 190 // 10 + 2 * (SMALL_MAX + 1)


def test_another_recipe_takes_nothing_over(tmp_path: Path) -> None:
    """Shards of other pixels are of no use."""
    prepare(tmp_path, listing_of(range(100)), "first")
    assert find_reusable(tmp_path, listing_of(range(100)), recipe="other", unit_rows=20) == NOTHING


def test_damaged_records_are_not_taken_over(tmp_path: Path) -> None:
    """One flipped bit in what is known of a unit: everything is prepared again rather than something wrong believed."""
    prepare(tmp_path, listing_of(range(100)), "first")
    record = tmp_path / "first" / "units" / "00000002.json"
    record.write_text(record.read_text().replace('"sums": [0]', '"sums": [1]'))
    assert find_reusable(tmp_path, listing_of(range(100)), recipe="r", unit_rows=20) == NOTHING


def test_a_shard_that_is_gone_is_not_taken_over(tmp_path: Path) -> None:
    """Its unit is prepared again."""
    prepare(tmp_path, listing_of(range(100)), "first")
    next((tmp_path / "first" / "shards").iterdir()).unlink()
    _, read = prepare(tmp_path, listing_of(range(100), changed=[]), "second")
    assert 0 < read <= 20


def test_units_of_images_that_are_tried_again_are_not_taken_over(tmp_path: Path) -> None:
    """The unit of a rejected image is prepared again when that image is to be tried again."""
    table = listing_of(range(100))
    prepare(tmp_path, table, "first", rejected=7)
    again = find_reusable(tmp_path, table, recipe="r", unit_rows=20, without={sample_id(b"7.png", 1).hex()})
    assert again.images == 80


def test_data_that_was_superseded_leads_to_its_successor(tmp_path: Path) -> None:
    """Along the whole chain; a chain that bites its tail is named."""
    assert current(tmp_path, "a") == "a"
    supersede(tmp_path, "a", "b", ["01"])
    supersede(tmp_path, "b", "c", ["02", "03"])
    assert current(tmp_path, "a") == "c"
    assert retried(tmp_path, "c") == {"02", "03"}
    supersede(tmp_path, "c", "a", [])
    with pytest.raises(StorageError, match="leads in a circle"):
        current(tmp_path, "a")


def test_kept_units_are_those_of_the_same_rows() -> None:
    """Laying out a listing around kept units leaves every row where the unit had it."""
    table = listing_of(range(60))
    first = lay_out(table, 10)
    places = pc.index_in(first["id"], table["id"].combine_chunks()).to_numpy()
    kept = [places[unit.start : unit.stop] for unit in units_of(first)[1:4]]
    second = lay_out(table, 10, kept)
    for number, unit in enumerate(units_of(first)[1:4]):
        rows = first["id"][unit.start : unit.stop].to_pylist()
        start = units_of(second)[number].start
        assert second["id"][start : start + len(rows)].to_pylist() == rows
    assert replace(units_of(second)[0], index=1) == Unit(1, "train", 0, 10)
