"""Writers that commit the same folder at the same time: one data set comes of it, and it is whole."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from queue import Empty

import numpy as np
import pyarrow as pa
import pytest
from small_units import IMAGE, REJECT, UNITS, rows_of, write_unit

from orchestrator.dataset.commit import UnitRecord, commit, write_unit_record
from orchestrator.dataset.listing import make_table
from orchestrator.dataset.shards import write_shard
from orchestrator.dataset.units import lay_out, write_listing
from orchestrator.dataset.verify import data_faults
from orchestrator.errors import StorageError

ROUNDS = 30
WRITERS = [2, pytest.param(8, marks=pytest.mark.slow)]


@dataclass(frozen=True)
class Attempt:
    """What one writer came to in one folder."""

    folder: Path
    writer: str
    manifest: bytes = b""
    error: str = ""


def listing() -> pa.Table:
    """Of the units; nothing but ids and splits matters here."""
    count = UNITS[-1].stop
    ids = [number.to_bytes(16, "big") for number in range(count)]
    splits = [unit.split for unit in UNITS for _ in range(unit.start, unit.stop)]
    zeros = np.zeros(count, np.int64)
    columns = {
        "id": pa.array(ids, pa.binary(16)),
        "path": pa.array(ids, pa.binary()),
        "size": pa.array(zeros),
        "mtime_ns": pa.array(zeros),
        "label": pa.array(zeros.astype(np.int32)),
        "split": pa.array(splits),
    }
    return lay_out(make_table(columns), count)


def written(folder: Path, variant: str) -> dict[int, UnitRecord]:
    """The units as one writer prepares them; a variant of another name than `same` differs in what it is named after."""
    write_listing(folder, listing())
    records = {unit.index: write_unit(folder, unit) for unit in UNITS}
    if variant == "rejects":
        records[1] = replace(records[1], rejects=(replace(REJECT, reason="corrupt"),))
        write_unit_record(folder, records[1])
    if variant == "shard":
        shard = write_shard(folder, replace(rows_of(UNITS[3]), paths=["cat/renamed.png"] * 50))
        records[3] = replace(records[3], shard=shard.name, sha256=shard.sha256, size_bytes=shard.size_bytes)
        write_unit_record(folder, records[3])
    return records


def commit_all(folders: Sequence[Path], variant: str, barrier: Barrier, results: Queue[Attempt]) -> None:
    """One writer: prepares each folder and commits it at the same moment as the others."""
    for folder in folders:
        records = written(folder, variant)
        barrier.wait(60)
        try:
            manifest = commit(
                folder, fingerprint="f" * 16, recipe="r", classes=("cat", "dog"), units=UNITS, records=records, skipped={}, image=IMAGE
            ).to_bytes()
            results.put(Attempt(folder, variant, manifest=manifest))
        except StorageError as error:
            results.put(Attempt(folder, variant, error=error.message))


def race(place: Path, variants: Sequence[str]) -> dict[Path, list[Attempt]]:
    """What the writers came to, folder by folder; one process for each variant."""
    folders = [place / f"{number:02}" for number in range(ROUNDS)]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["small_units", "orchestrator.dataset.commit"])
    barrier, results = context.Barrier(len(variants)), context.Queue()
    writers = [context.Process(target=commit_all, args=(folders, variant, barrier, results)) for variant in variants]
    for writer in writers:
        writer.start()
    attempts: list[Attempt] = []
    while len(attempts) < len(folders) * len(variants):
        try:
            attempts.append(results.get(timeout=1))
        except Empty:
            assert not [writer for writer in writers if writer.exitcode], "a writer died"
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    return {folder: [attempt for attempt in attempts if attempt.folder == folder] for folder in folders}


def left_over(folder: Path) -> list[Path]:
    return list(folder.rglob(".*.tmp"))


@pytest.mark.parametrize("count", WRITERS)
def test_writers_of_the_same_content_all_succeed(tmp_path: Path, count: int) -> None:
    """Every one of them returns the manifest that is there, the data is sound, and nothing else is left."""
    for folder, attempts in race(tmp_path, ["same"] * count).items():
        assert {attempt.manifest for attempt in attempts} == {(folder / "manifest.json").read_bytes()}, attempts
        assert data_faults(folder) + left_over(folder) == []


@pytest.mark.parametrize("differs", ["rejects", "shard"])
@pytest.mark.parametrize("count", WRITERS)
def test_of_writers_of_different_content_one_kind_wins(tmp_path: Path, count: int, differs: str) -> None:
    """One content is committed and stays sound; whoever came with the other is told of the conflict."""
    for folder, attempts in race(tmp_path, [differs, *["same"] * (count - 1)]).items():
        committed = (folder / "manifest.json").read_bytes()
        winners = {attempt.writer for attempt in attempts if attempt.manifest}
        assert len(winners) == 1, attempts
        for attempt in attempts:
            assert attempt.manifest == (committed if attempt.writer in winners else b""), attempts
            assert attempt.manifest or "another writer committed something else" in attempt.error
        assert data_faults(folder) + left_over(folder) == []


def test_what_another_writer_is_about_to_commit_is_not_replaced(tmp_path: Path) -> None:
    """A writer that finds other rejects leaves them as they are, although no manifest names them yet: the other one may be frozen."""
    (tmp_path / "rejects.parquet").write_bytes(b"of a frozen writer")
    arguments = {"fingerprint": "f", "recipe": "r", "classes": ("cat", "dog"), "units": UNITS, "skipped": {}, "image": IMAGE}
    with pytest.raises(StorageError, match="another writer committed something else"):
        commit(tmp_path, records=written(tmp_path, "same"), **arguments)
    assert (tmp_path / "rejects.parquet").read_bytes() == b"of a frozen writer"
    assert not (tmp_path / "manifest.json").exists()
