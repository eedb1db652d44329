"""Other loaders, each as its own documentation shows it, with the same function; run by the Python that has the loader.

Each gives micro-batches of (M, 224, 224, 3) uint8 for as many epochs as a course has, and reads nothing before the first one is
asked for. A loader's own package is imported in its function.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from consume import Consumed, Course, consume
from crop import SIZE, crop_into, crop_pixels_into, empty_batch
from numpy.typing import NDArray
from processes import plain_environment

Batches = Iterator[NDArray[np.uint8]]
WITHIN_S = 900.0
"""For one course; the slowest loader takes a minute or two."""


@dataclass(frozen=True)
class Order:
    """What a loader is asked for."""

    loader: str
    source: str
    """A folder of class folders; of tar files for WebDataset."""
    batch: int
    workers: int
    """Processes, or threads, that decode. Ray Data decides itself."""
    course: Course

    @property
    def files(self) -> list[str]:
        return sorted(str(path) for path in Path(self.source).glob("*/*.jpg"))


def run_loader(python: Path, order: Order) -> Consumed:
    """In a process of its own, with the Python that has the loader.

    Raises:
        TimeoutExpired: The loader stands still.
    """
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
    environment = plain_environment() | {"PYTHONPATH": os.pathsep.join(paths)}
    # Not the file as a program: what other processes shall import must not be in `__main__`.
    command = [str(python), "-c", "import loaders; loaders.main()", json.dumps(asdict(order))]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment, timeout=WITHIN_S)
    return Consumed(**json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """The order on the command line, the answer on stdout."""
    warnings.filterwarnings("ignore", message="This DataLoader will create")  # the best number of workers may be above that of the cores
    message = json.loads(sys.argv[1])
    order = Order(**message | {"course": Course(**message["course"])})
    consumed = consume(LOADERS[order.loader](order), order.course, os.getpid())
    sys.stdout.write(json.dumps(asdict(consumed)) + "\n")


def torch_batches(order: Order) -> Batches:
    """Processes that stay from epoch to epoch and collate in shared memory."""
    from torch.utils.data import DataLoader

    loader: Any = DataLoader(
        Pictures(order.files),  # type: ignore[arg-type]
        batch_size=order.batch,
        shuffle=True,
        num_workers=order.workers,
        drop_last=True,
        persistent_workers=True,
    )
    return epochs(order, lambda: loader, lambda batch: batch[0].numpy())


class Pictures:
    """A data set as torch's DataLoader takes it."""

    def __init__(self, files: list[str]) -> None:
        self._files = files

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, place: int) -> tuple[NDArray[np.uint8], int]:
        return crop_bytes(Path(self._files[place]).read_bytes()), label_of(self._files[place])


def spdl_batches(order: Order) -> Batches:
    """Threads that fill a micro-batch each, in place."""
    from spdl.pipeline import PipelineBuilder

    builder = PipelineBuilder().add_source(parts(order)).pipe(fill_batch, concurrency=order.workers).add_sink(3)

    def run() -> Iterator[Any]:
        pipeline = builder.build(num_threads=order.workers)
        with pipeline.auto_stop():
            yield from pipeline.get_iterator()

    return epochs(order, run, lambda batch: batch[0])


def parts(order: Order) -> Iterator[list[str]]:
    """The files of each micro-batch, for all epochs: a pipeline is built once."""
    rng, files = np.random.default_rng(), order.files
    for _ in range(order.course.all_epochs):
        mixed = rng.permutation(files).tolist()
        for start in range(0, len(mixed) - order.batch + 1, order.batch):
            yield mixed[start : start + order.batch]


def fill_batch(files: list[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    rng, images = np.random.default_rng(), empty_batch(len(files))
    for place, file in enumerate(files):
        crop_into(images[place], Path(file).read_bytes(), rng)
    return images, np.array([label_of(file) for file in files], np.int64)


def webdataset_batches(order: Order) -> Batches:
    """Processes that read tar files, shuffle in a buffer of 1,000 files and collate; the stream does not end."""
    import webdataset

    tars = sorted(str(path) for path in Path(order.source).glob("*.tar"))
    dataset = webdataset.WebDataset(tars, resampled=True, shardshuffle=False).shuffle(1000).to_tuple("jpg", "cls")
    batched = dataset.map_tuple(crop_bytes, int).batched(order.batch, partial=False)
    loader = webdataset.WebLoader(batched, batch_size=None, num_workers=order.workers)
    return epochs(order, lambda: loader, lambda batch: np.asarray(batch[0]))


def ray_data_batches(order: Order) -> Batches:
    """`read_images`, `map`, `iter_torch_batches`, on a Ray of its own; an epoch is an execution."""
    import ray
    import ray.data
    from ray.data.datasource.partitioning import Partitioning

    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    classes = Partitioning("dir", field_names=["class"], base_dir=order.source)
    dataset = ray.data.read_images(order.source, mode="RGB", partitioning=classes).map(crop_row)
    epoch = partial(dataset.iter_torch_batches, batch_size=order.batch, drop_last=True)
    return epochs(order, epoch, lambda batch: batch["image"].numpy())


def crop_row(row: dict[str, Any]) -> dict[str, Any]:
    """`read_images` has decoded the file already."""
    out: NDArray[np.uint8] = np.empty((SIZE, SIZE, 3), np.uint8)
    crop_pixels_into(out, row["image"], rng_of(os.getpid()))
    return {"image": out, "label": int(row["class"].removeprefix("class-"))}


def crop_bytes(data: bytes) -> NDArray[np.uint8]:
    out: NDArray[np.uint8] = np.empty((SIZE, SIZE, 3), np.uint8)
    crop_into(out, data, rng_of(os.getpid()))
    return out


@cache
def rng_of(pid: int) -> np.random.Generator:
    """One for each process: what a process inherits when it is forked, it does not use."""
    return np.random.default_rng(pid)


def label_of(file: str) -> int:
    return int(Path(file).parent.name.removeprefix("class-"))


def epochs(order: Order, epoch: Callable[[], Iterable[Any]], pixels: Callable[[Any], NDArray[np.uint8]]) -> Batches:
    for _ in range(order.course.all_epochs):
        for batch in epoch():
            yield pixels(batch)


LOADERS: dict[str, Callable[[Order], Batches]] = {
    "torch": torch_batches,
    "spdl": spdl_batches,
    "webdataset": webdataset_batches,
    "ray-data": ray_data_batches,
}
