"""Files that hold many images: Parquet as `datasets` writes it, and the tar files of a WebDataset."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.dataset.listing import Listing
from orchestrator.dataset.sources.find import list_images
from orchestrator.dataset.sources.read import read_images
from orchestrator.dataset.splits import assign_splits
from orchestrator.dataset.units import ListedImage, lay_out, units_of
from orchestrator.errors import DataError, JobError

NAMES = json.dumps({"info": {"features": {"label": {"_type": "ClassLabel", "names": ["dog", "cat"]}, "image": {"_type": "Image"}}}})


def write_rows(path: Path, first: int, count: int, *, group: int = 10, named: bool = True) -> None:
    """Rows `first` and after: the image says its number, labels alternate."""
    numbers = range(first, first + count)
    images = pa.array([{"bytes": b"image %d" % number, "path": f"{number}.jpg"} for number in numbers])
    table = pa.table({"image": images, "label": pa.array([number % 2 for number in numbers], pa.int64())})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata({"huggingface": NAMES} if named else None), path, row_group_size=group)


def write_tar(path: Path, members: dict[str, bytes], mode: str = "w") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def samples(first: int, count: int) -> dict[str, bytes]:
    found = {}
    for number in range(first, first + count):
        found |= {f"{number:04d}.jpg": b"image %d" % number, f"{number:04d}.cls": b"%d\n" % (number % 2)}
    return found


def laid_out(listing: Listing, unit_rows: int) -> pa.Table:
    return lay_out(assign_splits(listing, validation=0, test=0, seed=0), unit_rows)


def read_all(listing: Listing) -> dict[bytes, bytes | None]:
    wanted = [ListedImage(**row) for row in laid_out(listing, 7).select(ListedImage.columns()).to_pylist()]
    return dict(zip([image.path for image in wanted], read_images(listing.base, wanted), strict=True))


def fault(source: Path) -> str:
    with pytest.raises(JobError) as raised:
        list_images(source)
    assert raised.value.next_step
    return str(raised.value)


def test_rows_are_listed_with_the_names_of_their_classes(tmp_path: Path) -> None:
    """The order of the classes is that of the file, files named after splits decide the split, and every image is its own."""
    write_rows(tmp_path / "data" / "train-00000-of-00002.parquet", 0, 25)
    write_rows(tmp_path / "data" / "train-00001-of-00002.parquet", 25, 10)
    write_rows(tmp_path / "data" / "test-00000-of-00001.parquet", 35, 5)
    listing = list_images(tmp_path)

    assert listing.classes == ("dog", "cat")
    counts = listing.table.group_by("split").aggregate([("id", "count")]).to_pylist()
    assert {row["split"]: row["id_count"] for row in counts} == {"train": 35, "test": 5}
    assert sorted(read_all(listing).values()) == sorted(b"image %d" % number for number in range(40))
    assert read_all(listing)[b"data/train-00001-of-00002.parquet#3"] == b"image 28"


def test_a_row_group_is_read_once_for_a_unit(tmp_path: Path) -> None:
    """Images are prepared row group by row group, in an order that has nothing to do with that of the file."""
    write_rows(tmp_path / "all.parquet", 0, 200)
    table = laid_out(list_images(tmp_path / "all.parquet"), 40)
    groups = np.array(table["place"].to_pylist()) // 10
    assert np.count_nonzero(np.diff(groups)) == 19
    assert not np.array_equal(groups, np.sort(groups))
    assert [unit.stop - unit.start for unit in units_of(table)] == [40] * 5


def test_bare_bytes_and_numbers_without_names_are_taken(tmp_path: Path) -> None:
    """A binary column is an image as well, and labels without names are named by their numbers."""
    pq.write_table(pa.table({"image": [b"one", b"two", None], "label": [11, 2, 2]}), tmp_path / "bare.parquet")
    listing = list_images(tmp_path / "bare.parquet")
    assert listing.classes == ("2", "11")
    assert sorted(content or b"" for content in read_all(listing).values()) == [b"", b"one", b"two"]


def test_a_label_without_a_name_is_refused(tmp_path: Path) -> None:
    """Numbers that the file's own list of classes does not have."""
    write_rows(tmp_path / "x.parquet", 0, 4)
    table = pq.read_table(tmp_path / "x.parquet")
    pq.write_table(table.set_column(1, "label", pa.array([0, 1, 2, -1])), tmp_path / "x.parquet")
    assert "label 2 is not one of the 2 classes that the file names" in fault(tmp_path / "x.parquet")


def test_archives_are_listed_without_being_unpacked(tmp_path: Path) -> None:
    """Every image is a stretch of its tar file; numbers in the pattern are a range; nothing else appears on disk."""
    for shard in range(3):
        write_tar(tmp_path / f"train-{shard:03d}.tar", samples(shard * 10, 10))
    before = sorted(tmp_path.rglob("*"))
    listing = list_images(f"{tmp_path}/train-{{000..002}}.tar")

    assert listing.classes == ("0", "1")
    assert set(listing.table["split"].to_pylist()) == {"train"}
    assert sorted(read_all(listing).values()) == sorted(b"image %d" % number for number in range(30))
    assert listing.table.sort_by("path")["path"][0].as_py() == b"train-000.tar/0000.jpg"
    assert list_images(tmp_path).table["id"].to_pylist() == listing.table["id"].to_pylist()
    assert sorted(tmp_path.rglob("*")) == before


def test_members_that_are_no_samples_are_counted(tmp_path: Path) -> None:
    """Links, devices, hidden files, other kinds, images without a label, labels without an image."""
    path = tmp_path / "x.tar"
    described = {"b.png": b"image b", "b.json": json.dumps({"label": "bird", "group": 7}).encode()}
    write_tar(path, samples(0, 2) | described | {"lone.jpg": b"x", "only.cls": b"1", ".hidden.jpg": b"x", "b.txt": b"a caption"})
    with tarfile.open(path, "a") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE):
            entry = tarfile.TarInfo("../../etc/passwd.jpg")
            entry.type, entry.linkname = kind, "/etc/passwd"
            archive.addfile(entry)
    listing = list_images(path)

    assert listing.classes == ("0", "1", "bird")
    assert listing.table.filter(pa.array([path.endswith(b"b.png") for path in listing.table["path"].to_pylist()]))["group"].to_pylist() == [
        "7"
    ]
    assert listing.skipped == {
        "extension_not_of_an_image": 1,
        "hidden": 1,
        "label_missing": 1,
        "not_a_regular_file": 3,
        "sample_without_an_image": 1,
    }


def test_archives_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    """Missing, compressed, cut, without labels: one line each with the next step."""
    write_tar(tmp_path / "packed.tar", samples(0, 4), "w:gz")
    write_tar(tmp_path / "bare.tar", {"a.jpg": b"x"})
    (tmp_path / "text.tar").write_text("this is no archive, whatever its name says" * 20)

    assert "no such file" in fault(tmp_path / "missing.tar")
    assert "is not a plain tar file" in fault(tmp_path / "packed.tar")
    assert "is not a plain tar file" in fault(tmp_path / "text.tar")
    assert "no image has a label" in fault(tmp_path / "bare.tar")
    assert "no file has such a name" in fault(tmp_path / "none-*.tar")


def test_a_tar_file_that_was_cut_since_is_an_error(tmp_path: Path) -> None:
    """An image that is shorter than it was is the fault of the storage, not of the image."""
    write_tar(tmp_path / "x.tar", samples(0, 4))
    listing = list_images(tmp_path / "x.tar")
    with (tmp_path / "x.tar").open("r+b") as file:
        file.truncate(600)
    with pytest.raises(DataError, match="when it was listed"):
        read_all(listing)
