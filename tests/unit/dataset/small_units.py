"""Seven hundred listed images in four units, written and committed without any picture being read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from orchestrator.dataset.commit import Reject, UnitRecord, commit, completed_units, write_unit_record
from orchestrator.dataset.manifest import Manifest, StoredImage
from orchestrator.dataset.shards import ShardRows, write_shard
from orchestrator.dataset.units import Unit

IMAGE = StoredImage(size=4, channels=1, store="raw", fit="crop")
REJECT = Reject("ab" * 16, "cat/\udcff.jpg", 3, "0" * 64, "not_an_image", "starts with b'x'")


def rows_of(unit: Unit) -> ShardRows:
    count = unit.stop - unit.start - (unit.index == 1)
    rng = np.random.default_rng(unit.index)
    return ShardRows(
        images=[rng.integers(0, 256, 16, dtype=np.uint8).tobytes() for _ in range(count)],
        paths=[f"cat/{unit.index}-{number}.png" for number in range(count)],
        labels=np.arange(count, dtype=np.int64) % 2,
        ids=rng.integers(0, 256, (count, 16), dtype=np.uint8),
        widths=np.full(count, 4, np.int32),
        heights=np.full(count, 4, np.int32),
        hashes=[f"{number:064x}" for number in range(count)],
        kinds=["png rgb"] * count,
        looks=[bytes(96)] * count,
    )


UNITS = [Unit(0, "train", 0, 300), Unit(1, "train", 300, 600), Unit(2, "validation", 600, 650), Unit(3, "test", 650, 700)]


def write_unit(data: Path, unit: Unit) -> UnitRecord:
    rows = rows_of(unit)
    shard = write_shard(data, rows)
    pixels = np.frombuffer(b"".join(rows.images), np.uint8).astype(np.int64)
    record = UnitRecord(
        unit=unit.index,
        split=unit.split,
        listed=unit.stop - unit.start,
        shard=shard.name,
        rows=shard.rows,
        size_bytes=shard.size_bytes,
        sha256=shard.sha256,
        rejects=(REJECT,) if unit.index == 1 else (),
        pixels=len(pixels),
        sums=(int(pixels.sum()),),
        squares=(int((pixels**2).sum()),),
    )
    write_unit_record(data, record)
    return record


def finish(data: Path, units: list[Unit] = UNITS) -> Manifest:
    done = completed_units(data, units)
    records = done | {unit.index: write_unit(data, unit) for unit in units if unit.index not in done}
    return commit(
        data, fingerprint="f" * 16, recipe="r", classes=("cat", "dog"), units=units, records=records, skipped={"hidden": 1}, image=IMAGE
    )
