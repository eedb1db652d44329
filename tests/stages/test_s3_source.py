"""Images on a real S3 server are prepared as those of a folder are, and its failures are never the fault of an image."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faulty_proxy import FaultyProxy
from s3_server import S3Server
from workshop import CLASSES, Workshop

from orchestrator.dataset.sources import storage
from orchestrator.dataset.sources.find import list_images
from orchestrator.dataset.sources.read import read_images
from orchestrator.dataset.units import ListedImage
from orchestrator.errors import DataError, JobError, PlanError
from orchestrator.record.journal import read_events
from orchestrator.testing import write_bad_images

Make = Callable[..., Workshop]
ALWAYS = 10_000


@pytest.fixture(autouse=True)
def fresh_connections(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test opens its own; what cannot succeed is tried twice."""
    monkeypatch.setattr(storage, "PAUSES_S", (0.01,))
    storage._file_system.cache_clear()
    yield
    storage._file_system.cache_clear()


def shards_of(workshop: Workshop) -> list[dict[str, object]]:
    (path,) = workshop.root.data.glob("*/manifest.json")
    shards: list[dict[str, object]] = json.loads(path.read_bytes())["shards"]
    return shards


def test_a_bucket_gives_the_shards_of_the_folder(make_workshop: Make, s3_server: S3Server) -> None:
    """The same images under an address become the same files, byte for byte."""
    local, remote = make_workshop(name="local"), make_workshop(name="remote")
    address = s3_server.upload(local.images, "folders", "shapes")
    local.run(in_process=True, until="prepare")
    remote.run(f"data.source={address}", in_process=True, until="prepare")
    assert shards_of(remote) == shards_of(local)


def test_training_starts_from_weights_in_a_bucket(make_workshop: Make, s3_server: S3Server) -> None:
    """An address is as good as a path; one that leads nowhere is said before anything starts."""
    workshop = make_workshop()
    trained = workshop.run(in_process=True, until="train").folder.weights.read_bytes()
    s3_server.create_bucket("nets")
    address = s3_server.put("nets", "shapes/net.safetensors", trained)
    started = workshop.run(f"model.weights={address}", in_process=True, until="train").folder
    (loaded,) = (event for event in read_events(started.events) if event["event"] == "WeightsLoaded")
    assert (loaded["source"], loaded["sha256"]) == (address, hashlib.sha256(trained).hexdigest())
    with pytest.raises(PlanError, match=r"there is no file of weights s3://nets/other\.safetensors"):
        workshop.run("model.weights=s3://nets/other.safetensors", in_process=True, until="train")


def test_a_manifest_in_a_bucket_names_images_anywhere(make_workshop: Make, s3_server: S3Server) -> None:
    """Paths are seen from the manifest, addresses stand for themselves, paths of this machine too."""
    workshop = make_workshop()
    s3_server.upload(workshop.images, "manifests", "near/shapes")
    s3_server.upload(workshop.images, "elsewhere", "shapes")
    lines = ["uri,label"]
    for start in ("shapes", "s3://elsewhere/shapes", str(workshop.images)):
        lines += [f"{start}/{name}/{number:05d}.png,{name}" for name in CLASSES for number in range(10)]
    s3_server.put("manifests", "near/list.csv", "\n".join(lines).encode())
    outcome = workshop.run("data.source=s3://manifests/near/list.csv", in_process=True, until="prepare")
    assert outcome.report.data is not None
    assert (outcome.report.data.rows, outcome.report.data.rejects) == (90, 0)


def test_archives_and_parquet_files_in_a_bucket_are_read_in_parts(make_workshop: Make, s3_server: S3Server) -> None:
    """A WebDataset behind a pattern, and a folder of Parquet files."""
    archives, tables = make_workshop(name="archives"), make_workshop(name="tables")
    images = [(label, path) for label, name in enumerate(CLASSES) for path in sorted((archives.images / name).iterdir())[:12]]
    for part in range(3):
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for number, (label, path) in enumerate(images[part::3]):
                for name, content in ((f"{number:04d}.png", path.read_bytes()), (f"{number:04d}.cls", str(label).encode())):
                    entry = tarfile.TarInfo(name)
                    entry.size = len(content)
                    archive.addfile(entry, io.BytesIO(content))
        s3_server.create_bucket("containers")
        s3_server.put("containers", f"tars/shapes-{part:03d}.tar", packed.getvalue())
        table = pa.table({"image": [path.read_bytes() for _, path in images[part::3]], "label": [label for label, _ in images[part::3]]})
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, row_group_size=5)
        s3_server.put("containers", f"tables/part-{part}.parquet", sink.getvalue().to_pybytes())
    for workshop, source in ((archives, "tars/shapes-{000..002}.tar"), (tables, "tables")):
        outcome = workshop.run(f"data.source='s3://containers/{source}'", in_process=True, until="prepare")
        assert outcome.report.data is not None
        assert (outcome.report.data.rows, outcome.report.data.rejects) == (36, 0)


def test_a_storage_that_stumbles_loses_nothing(make_workshop: Make, s3_server: S3Server, s3_proxy: FaultyProxy) -> None:
    """Some answers of 503, some connections that break: no reject, the same shards."""
    local, remote = make_workshop(name="local"), make_workshop(name="remote")
    address = s3_server.upload(local.images, "stumbles")
    local.run(in_process=True, until="prepare")
    s3_proxy.fail(6, 503, "GET")
    remote.run(f"data.source={address}", in_process=True, until="prepare")
    s3_proxy.heal()
    assert shards_of(remote) == shards_of(local)


@pytest.mark.parametrize("status", [500, 403])
def test_a_storage_that_fails_ends_the_run_and_rejects_nothing(
    make_workshop: Make, s3_server: S3Server, s3_proxy: FaultyProxy, status: int
) -> None:
    """Images that cannot be fetched are no bad images: exit code 1 with the address, nothing committed, and the next run goes on."""
    workshop = make_workshop(images_per_class=8)
    address = s3_server.upload(workshop.images, f"fails-{status}")
    listing = list_images(address)
    images = [ListedImage(**row) for row in listing.table.select(ListedImage.columns()).to_pylist()]
    s3_proxy.fail(ALWAYS, status, "GET")
    with pytest.raises(DataError, match=rf"cannot read .*\.png.*{'500|INTERNAL' if status == 500 else 'ACCESS_DENIED'}"):
        list(read_images(listing.base, images))
    with pytest.raises(DataError, match=rf"cannot read {address}") as raised:
        workshop.run(f"data.source={address}", in_process=True, until="prepare")
    assert raised.value.exit_code == 1
    assert not list(workshop.root.data.glob("*/manifest.json"))

    s3_proxy.heal()
    outcome = workshop.run(f"data.source={address}", in_process=True, until="prepare")
    assert outcome.report.data is not None
    assert (outcome.report.data.rows, outcome.report.data.rejects) == (24, 0)


def test_bad_images_in_a_bucket_are_rejects(make_workshop: Make, s3_server: S3Server) -> None:
    """What is wrong with the bytes is told as for a file, and a name that a manifest made up as well."""
    workshop = make_workshop()
    reasons = write_bad_images(workshop.images / "disc")
    s3_server.upload(workshop.images, "bad", "shapes")
    lines = [f"shapes/{name}/{number:05d}.png,{name}" for name in CLASSES for number in range(20)]
    lines += [f"shapes/disc/{name},disc" for name in (*reasons, "nowhere.png")]
    s3_server.put("bad", "list.csv", "\n".join(["uri,label", *lines]).encode())
    workshop.run("data.source=s3://bad/list.csv", "data.max_bad_fraction=0.5", in_process=True, until="prepare")
    (path,) = workshop.root.data.glob("*/rejects.parquet")
    found = {Path(row["path"].decode()).name: row["reason"] for row in pq.read_table(path).to_pylist()}
    assert found == {name: reason.value for name, reason in reasons.items()} | {"nowhere.png": "missing"}


def test_addresses_that_lead_nowhere_are_one_line(make_workshop: Make, s3_server: S3Server) -> None:
    """No such folder, no such bucket, no such kind of address."""
    workshop = make_workshop()
    s3_server.create_bucket("empty")
    for address, error in (("s3://empty/nothing", JobError), ("s3://no-such-bucket/x", DataError), ("gopher://x/y", DataError)):
        with pytest.raises(error) as raised:
            workshop.run(f"data.source={address}", in_process=True, until="prepare")
        assert address.partition("://")[2].split("/")[0] in str(raised.value)
        assert raised.value.next_step
