"""Manifests name images one by one; what is wrong with one is said before anything is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.dataset.listing import MISSING_SIZE, Listing, given_id
from orchestrator.dataset.sources.find import list_images
from orchestrator.dataset.sources.read import read_images
from orchestrator.dataset.units import ListedImage
from orchestrator.errors import DataError, JobError

ROWS = [
    {"uri": "pictures/a.jpg", "label": "cat", "split": "train", "id": "1", "group": "x"},
    {"uri": "pictures/b.jpg", "label": "dog", "split": "val", "id": "2", "group": "y"},
    {"uri": "pictures/c d,e.jpg", "label": "cat", "split": "test", "id": "3", "group": None},
]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with three files."""
    (tmp_path / "pictures").mkdir()
    for row in ROWS:
        (tmp_path / row["uri"]).write_bytes(row["uri"].encode())
    return tmp_path


def write_csv(path: Path, rows: list[dict[str, str | None]]) -> None:
    lines = [",".join(rows[0])] + [",".join(f'"{value}"' if value else "" for value in row.values()) for row in rows]
    path.write_text("\n".join(lines) + "\n")


def write_tsv(path: Path, rows: list[dict[str, str | None]]) -> None:
    path.write_text("\n".join("\t".join(value or "" for value in line) for line in [list(rows[0]), *(row.values() for row in rows)]))


def write_jsonl(path: Path, rows: list[dict[str, str | None]]) -> None:
    path.write_text("\n".join(json.dumps(row) for row in rows))


def write_parquet(path: Path, rows: list[dict[str, str | None]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path)


def contents(listing: Listing) -> dict[bytes, bytes | None]:
    wanted = [ListedImage(**row) for row in listing.table.select(ListedImage.columns()).to_pylist()]
    return dict(zip([image.path for image in wanted], read_images(listing.base, wanted), strict=True))


def fault(source: Path) -> str:
    with pytest.raises(JobError) as raised:
        list_images(source)
    assert raised.value.next_step
    return str(raised.value)


@pytest.mark.parametrize(
    ("name", "write"), [("m.csv", write_csv), ("m.tsv", write_tsv), ("m.jsonl", write_jsonl), ("m.parquet", write_parquet)]
)
def test_every_form_of_a_manifest_says_the_same(pictures: Path, name: str, write: Callable[..., None]) -> None:
    """Labels, splits, ids and groups arrive as they were written, and paths are seen from the manifest's folder."""
    write(pictures / name, ROWS)
    listing = list_images(pictures / name)
    rows = {row["path"].decode(): row for row in listing.table.to_pylist()}

    assert listing.classes == ("cat", "dog")
    assert {path: (row["label"], row["split"], row["group"]) for path, row in rows.items()} == {
        "pictures/a.jpg": (0, "train", "x"),
        "pictures/b.jpg": (1, "validation", "y"),
        "pictures/c d,e.jpg": (0, "test", None),
    }
    assert rows["pictures/a.jpg"]["id"] == given_id("1")
    assert contents(listing) == {row["uri"].encode(): row["uri"].encode() for row in ROWS}


def test_only_uri_and_label_are_needed(pictures: Path) -> None:
    """Without the other columns ids come from path and size, and splits are left to the job."""
    write_csv(pictures / "m.csv", [{"uri": row["uri"], "label": row["label"]} for row in ROWS])
    table = list_images(pictures / "m.csv").table
    assert table["split"].to_pylist() == [""] * 3
    assert len(set(table["id"].to_pylist())) == 3


def test_labels_that_are_numbers_keep_their_order(pictures: Path) -> None:
    """Class 10 comes after class 9, as text and as a number."""
    rows = [{"uri": "pictures/a.jpg", "label": "10"}, {"uri": "pictures/b.jpg", "label": "9"}]
    write_csv(pictures / "m.csv", rows)
    pq.write_table(pa.table({"uri": [row["uri"] for row in rows], "label": [10, 9]}), pictures / "m.parquet")
    assert list_images(pictures / "m.csv").classes == list_images(pictures / "m.parquet").classes == ("9", "10")


def test_an_image_that_is_not_there_is_listed(pictures: Path) -> None:
    """It is a reject of prepare, not an error: one dead line must not end a run of millions."""
    write_csv(pictures / "m.csv", [*ROWS, {"uri": "pictures/gone.jpg", "label": "dog", "split": "train", "id": "4", "group": None}])
    listing = list_images(pictures / "m.csv")
    assert (
        dict(zip(listing.table["path"].to_pylist(), listing.table["size"].to_pylist(), strict=True))[b"pictures/gone.jpg"] == MISSING_SIZE
    )
    assert contents(listing)[b"pictures/gone.jpg"] is None


def test_an_image_that_appears_or_changes_after_the_listing_ends_the_run(pictures: Path) -> None:
    """What is prepared is what was listed."""
    write_csv(pictures / "m.csv", ROWS)
    (pictures / "pictures" / "b.jpg").unlink()
    listing = list_images(pictures / "m.csv")
    (pictures / "pictures" / "b.jpg").write_bytes(b"now it is there")
    with pytest.raises(DataError, match=r"b\.jpg has 15 bytes, 0 when it was listed"):
        contents(listing)


def test_rows_without_a_label_or_named_twice_are_counted(pictures: Path) -> None:
    """They are left out by named rules."""
    write_csv(pictures / "m.csv", [*ROWS, ROWS[0], {"uri": "x.jpg", "label": "", "split": "", "id": "", "group": ""}])
    listing = list_images(pictures / "m.csv")
    assert listing.table.num_rows == 3
    assert listing.skipped == {"label_missing": 1, "named_twice": 1}


def test_what_contradicts_itself_is_refused(pictures: Path) -> None:
    """One image with two labels, one id for two images, an unknown split: each is named."""
    write_csv(pictures / "m.csv", [ROWS[0], ROWS[0] | {"label": "dog"}])
    assert "pictures/a.jpg has label cat and label dog" in fault(pictures / "m.csv")
    write_csv(pictures / "m.csv", [ROWS[0], ROWS[1] | {"id": "1"}])
    assert "have the same id" in fault(pictures / "m.csv")
    write_csv(pictures / "m.csv", [ROWS[0], ROWS[1] | {"split": "holdout"}])
    assert "names splits that are not train, validation or test: holdout" in fault(pictures / "m.csv")


def test_what_is_no_manifest_is_refused(pictures: Path) -> None:
    """Missing, without the columns, empty, one class, no table at all: one line each, with the columns that were found."""
    write_csv(pictures / "columns.csv", [{"file": "a", "class": "b"}])
    (pictures / "empty.csv").write_text("uri,label\n")
    (pictures / "nothing.csv").write_text("")
    write_csv(pictures / "one.csv", [ROWS[0]])
    (pictures / "text.parquet").write_text("not Parquet")

    assert "no such file" in fault(pictures / "missing.csv")
    assert "has no column uri and no column label; its columns are file, class" in fault(pictures / "columns.csv")
    assert "names no image with a label" in fault(pictures / "empty.csv")
    assert "is not a table" in fault(pictures / "nothing.csv")
    assert "only one class: cat" in fault(pictures / "one.csv")
    assert "is not a Parquet file" in fault(pictures / "text.parquet")
