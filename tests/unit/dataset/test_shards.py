"""A shard is what was written, or an error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from orchestrator.dataset.shards import ALL, GROUP_ROWS, ShardRows, StoredRows, read_rows, write_shard
from orchestrator.errors import StorageError


def rows_of(count: int) -> ShardRows:
    rng = np.random.default_rng(count)
    return ShardRows(
        images=[rng.bytes(int(rng.integers(1, 40))) for _ in range(count)],
        paths=[f"cat/{number}.png" for number in range(count)],
        labels=rng.integers(0, 3, count),
        ids=rng.integers(0, 256, (count, 16), dtype=np.uint8),
        widths=rng.integers(1, 99, count, dtype=np.int32),
        heights=rng.integers(1, 99, count, dtype=np.int32),
        hashes=[f"{number:064x}" for number in range(count)],
        kinds=["png rgb"] * count,
        looks=[bytes(96)] * count,
    )


def same(first: StoredRows, second: ShardRows) -> bool:
    arrays = ("labels", "ids")
    return (first.images, first.paths) == (second.images, second.paths) and all(
        np.array_equal(getattr(first, name), getattr(second, name)) for name in arrays
    )


def test_a_flipped_bit_anywhere_is_an_error_or_harmless(tmp_path: Path) -> None:
    """One bit of every byte of the file, the footer included: the rows are the same, or the damage is named."""
    rows = rows_of(6)
    path = tmp_path / "shards" / write_shard(tmp_path, rows).name
    content = path.read_bytes()
    named = 0
    for at, bit in enumerate(np.random.default_rng(0).integers(0, 8, len(content)).tolist()):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :])
        try:
            assert same(read_rows(path, ALL), rows), (at, bit)
        except StorageError:
            named += 1
    assert named > len(content) // 3  # the rest lies in columns that training does not read


def test_row_counts_in_the_footer_are_checked(tmp_path: Path) -> None:
    """A row group that claims fewer rows would lose images without a word."""
    path = tmp_path / "shards" / write_shard(tmp_path, rows_of(20)).name
    content = path.read_bytes()
    fewer = [content[:at] + bytes([content[at] ^ 8]) + content[at + 1 :] for at in range(len(content)) if content[at] == 40]  # zigzag of 20
    lost = 0
    for damaged in fewer:
        path.write_bytes(damaged)
        try:
            assert len(read_rows(path, ALL).images) == 20
        except StorageError as error:
            lost += "rows where 20 are announced" in str(error)
    assert lost


@pytest.mark.parametrize("wanted", [[], [0], [GROUP_ROWS - 1, GROUP_ROWS], [2 * GROUP_ROWS + 3], list(range(2 * GROUP_ROWS + 5))])
def test_any_choice_of_rows_comes_back(tmp_path: Path, wanted: list[int]) -> None:
    """None, one, on both sides of a row group, in the last group alone, and all."""
    rows = rows_of(2 * GROUP_ROWS + 5)
    path = tmp_path / "shards" / write_shard(tmp_path, rows).name
    found = read_rows(path, np.array(wanted, np.int64))
    assert found.images == [rows.images[row] for row in wanted]
    np.testing.assert_array_equal(found.ids, rows.ids[wanted])


def test_each_row_group_is_verified_when_it_is_first_read(tmp_path: Path) -> None:
    """Having read one row group says nothing of the next one; the checksum of one that was right is not computed again."""
    rows = rows_of(2 * GROUP_ROWS)
    path = tmp_path / "shards" / write_shard(tmp_path, rows).name
    content = path.read_bytes()
    first, second = (np.arange(group * GROUP_ROWS, (group + 1) * GROUP_ROWS) for group in range(2))
    read_rows(path, first)
    path.write_bytes(flipped(content, rows.images[GROUP_ROWS]))
    for wanted in (second, np.concatenate([first, second])):
        with pytest.raises(StorageError, match="is damaged"):
            read_rows(path, wanted)
    path.write_bytes(flipped(content, rows.images[0]))
    assert read_rows(path, first).images[0] != rows.images[0]
    with pytest.raises(StorageError, match="is damaged"):
        read_rows(path, ALL)


def flipped(content: bytes, image: bytes) -> bytes:
    """A shard with another first byte of an image."""
    at = content.index(image)
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def test_a_shard_that_was_cut_is_written_again(tmp_path: Path) -> None:
    """A file of the right name and the wrong size does not count as written."""
    shard = write_shard(tmp_path, rows_of(3))
    path = tmp_path / "shards" / shard.name
    content = path.read_bytes()
    path.write_bytes(content[:100])
    assert write_shard(tmp_path, rows_of(3)) == shard
    assert path.read_bytes() == content


def test_row_groups_have_a_fixed_size(tmp_path: Path) -> None:
    """Row r of a shard lies in group r // 256; no page is compressed."""
    file = pq.ParquetFile(tmp_path / "shards" / write_shard(tmp_path, rows_of(600)).name)
    groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
    assert [group.num_rows for group in groups] == [256, 256, 88]
    assert {group.column(number).compression for group in groups for number in range(group.num_columns)} == {"UNCOMPRESSED"}
