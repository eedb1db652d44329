"""Training ingest against bare OpenCV loops and other loaders: speed, CPU time, memory, and what goes through the object store.

Run it with `make bench-ingest`. Everybody makes the same micro-batches: decode, random resized crop to 224 x 224, flip. What it
saves to prepare images is measured twice: with that crop, which is cut from what is stored, and with the middle of the picture
resized to 224 x 224 and flipped, which gives the same pixels from every store.
"""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from bare_crop import run_bare_crops
from consume import Consumed, Course
from environments import Environment, environment_of
from ingest_once import Stored, ingest_once, job_of, shape_beside, stored, uncropped
from loaders import LOADERS, Order, run_loader
from pictures import list_pictures, mean_bytes, write_pictures
from pinned import cores
from prepare_once import SIZE, Workplace
from processes import Role, cpu_between, cpu_seconds
from start import parser_of, say
from table import Measure, Rounds, Row, fact_ratios, interleave, median_fact, median_seconds, publish, row_of, speed_ratios
from tars import write_tars

from orchestrator.launch.cluster import TOKEN, start_engine
from orchestrator.stages.environment import set_environment

BARS = {"bare": 0.85, "torch": 1.0, "ray-data": 2.0, "jpeg, resized": 3.0, "raw, resized": 5.0}
"""For speed; an epoch from `jpeg` and `raw` is compared with one from originals that gives the same images."""
STORE_BAR = 1.1
"""Bytes in the object store for each byte of pixels, at most."""
LOADER_AFTER = {"ray-data": 0}
"""Other loaders read a few micro-batches ahead, within one epoch; of Ray Data each epoch is an execution of its own."""
LONGER = {"original": 1, "jpeg": 3, "raw": 5}
"""Times the epochs of the originals: what is faster would be over too soon."""
NAMES = {
    "bare": "bare loops",
    "bare-keep": "bare loops that keep memory",
    "torch": "torch DataLoader",
    "ray-data": "Ray Data as documented",
    "spdl": "SPDL",
    "webdataset": "WebDataset",
    "original": "originals",
    "original, resized": "originals, resized",
}
RESIZED = ", resized"
"""Marks what is measured without a random crop."""
BARE = {"bare": False, "bare-keep": True}
"""Whether the loops keep memory."""
QUIET_S, QUIET_CPU, QUIET_WITHIN_S = 0.5, 0.2, 60.0
PIXEL_BYTES = SIZE * SIZE * 3
MEBI = 2**20


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure everything, print the table, write `ingest.json`."""
    options = parse(arguments)
    set_environment(TOKEN)
    say(f"pictures in {options.folder}/data, made where they are missing: {options.images:,}")
    pictures = write_pictures(options.folder / "data", options.images)
    homes = {loader: environment_of(loader, options.folder / "environments") for loader in options.loaders}
    with contenders(pictures, homes, options) as (measures, workers):
        say(f"{options.repeats} rounds of {', '.join(measures)}, after one that does not count")
        rounds = interleave(1 + options.repeats, {name: partial(when_quiet, measure) for name, measure in measures.items()})[1:]
    publish("ingest", rows_of(rounds, workers, list_pictures(pictures)), options.folder)
    sys.stdout.write("\n" + "\n".join(notes(homes, options)) + "\n")


def parse(arguments: Sequence[str] | None) -> Namespace:
    parser = parser_of(__doc__, "the pictures, the environments and the results")
    parser.add_argument("--images", type=int, default=2_000, help="images of an epoch")
    parser.add_argument("--batch", type=int, default=256, help="images of a micro-batch")
    parser.add_argument("--epochs", type=int, default=5, help="that are timed in each round, after one to warm up and before some more")
    parser.add_argument("--after", type=int, default=3, help="epochs behind those, more than readers read ahead; 0 does not check that")
    parser.add_argument("--repeats", type=int, default=5, help="rounds")
    parser.add_argument("--stores", nargs="+", choices=LONGER, default=list(LONGER), help="what is ingested")
    parser.add_argument("--loaders", nargs="*", choices=LOADERS, default=list(LOADERS), help="what originals are compared with")
    return parser.parse_args(arguments)


def when_quiet(measure: Callable[[], Measure]) -> Measure:
    """Once Ray has cleaned up after the last one: its processes use less than a fifth of a core for half a second.

    Raises:
        TimeoutError: They do not come to rest.
    """
    deadline = time.monotonic() + QUIET_WITHIN_S
    while time.monotonic() < deadline:
        before = cpu_seconds()
        time.sleep(QUIET_S)
        if sum(cpu_between(before, cpu_seconds()).values()) < QUIET_CPU * QUIET_S:
            return measure()
    raise TimeoutError(f"what was started before still computes after {QUIET_WITHIN_S:g} s")


@contextmanager
def contenders(
    pictures: Path, homes: Mapping[str, Environment], options: Namespace
) -> Iterator[tuple[dict[str, Callable[[], Measure]], dict[str, int]]]:
    """Everything that is measured, in the order of a round, and with how many workers each loader is at its best."""
    files, shape = list_pictures(pictures), shape_beside(len(cores()))
    with ExitStack() as ends:
        tars = write_tars(files, Path(ends.enter_context(TemporaryDirectory(prefix="tars-", dir=options.folder))) / "tars")
        rivals = {
            loader: Rival(loader, home.python, tars if loader == "webdataset" else pictures, options) for loader, home in homes.items()
        }
        workers = {loader: rival.best_workers(len(files)) for loader, rival in rivals.items()}
        place = Workplace(ends.enter_context(start_engine(shape, in_process=False)), shape, options.folder)
        prepared = {store: ends.enter_context(stored(job_of(pictures, store, options.batch), place)) for store in options.stores}
        resized = {f"{store}{RESIZED}": uncropped(data) for store, data in prepared.items()}
        ingests = {
            name: partial(ours, data, place, options.epochs * LONGER[name.removesuffix(RESIZED)], options.after)
            for name, data in (prepared | resized).items()
        }
        yield (
            (
                {name: partial(bare, [str(file) for file in files], options, keep=keep) for name, keep in BARE.items()}
                | {loader: partial(rival.measure, len(files), workers[loader]) for loader, rival in rivals.items()}
                | ingests
            ),
            workers,
        )


@dataclass(frozen=True)
class Rival:
    """Another loader."""

    loader: str
    python: Path
    source: Path
    options: Namespace

    def best_workers(self, images: int) -> int:
        """As many as there are cores, one more, or twice as many: the fastest in one short try each. Ray Data decides itself."""
        if self.loader == "ray-data":
            return 0
        tries = {count: self._run(images, count, 1) for count in (len(cores()), len(cores()) + 1, 2 * len(cores()))}
        say(", ".join(f"{self.loader} with {count} workers {tried.images / tried.seconds:,.0f} images/s" for count, tried in tries.items()))
        return min(tries, key=lambda count: tries[count].seconds)

    def measure(self, images: int, workers: int) -> Measure:
        return measure_of(self._run(images, workers, 1 if self.loader == "ray-data" else self.options.epochs))

    def _run(self, images: int, workers: int, epochs: int) -> Consumed:
        course = Course(images // self.options.batch, epochs, min(self.options.after, LOADER_AFTER.get(self.loader, 1)))
        return run_loader(self.python, Order(self.loader, str(self.source.resolve()), self.options.batch, workers, course))


def bare(files: list[str], options: Namespace, *, keep: bool) -> Measure:
    before = cpu_seconds()
    spent = run_bare_crops(files, options.epochs, options.batch, keep=keep)
    beside = cpu_between(before, cpu_seconds())
    thousands = len(files) * options.epochs / 1000
    idle = sum(seconds for role, seconds in beside.items() if role is not Role.DRIVER)
    return Measure(
        spent.seconds / thousands,
        {
            "cpu_s": spent.cpu_s / thousands,
            "idle_ray_cpu_s": idle / thousands,
            "whole_images_per_s": 1000 * thousands / spent.seconds,
            "first_batch_s": 0.0,
            "peak_bytes": spent.peak_bytes,
        },
    )


def ours(prepared: Stored, place: Workplace, epochs: int, after: int) -> Measure:
    done = ingest_once(prepared, place, epochs, after)
    stored_bytes = {"object_bytes": done.object_bytes / done.images, "spilled_bytes": done.spilled_bytes}
    measured = measure_of(done.consumed)
    return Measure(measured.seconds, {**measured.facts, **stored_bytes})


def measure_of(consumed: Consumed) -> Measure:
    """For 1,000 images."""
    thousands = consumed.images / 1000
    return Measure(
        consumed.seconds / thousands,
        {
            "cpu_s": sum(consumed.cpu_s.values()) / thousands,
            **{f"{role}_cpu_s": seconds / thousands for role, seconds in consumed.cpu_s.items()},
            "whole_images_per_s": consumed.whole_images / consumed.whole_s,
            "first_batch_s": consumed.first_batch_s,
            "peak_bytes": consumed.peak_bytes,
        },
    )


def rows_of(rounds: Rounds, workers: Mapping[str, int], files: Sequence[Path]) -> list[Row]:
    names = list(rounds[0])
    stores = [store for store in LONGER if store in names]
    rows = []
    if "original" in stores:
        rivals = [name for name in names if name.removesuffix(RESIZED) not in LONGER]
        rows += [speed_row(rounds, "original", rival, workers.get(rival, 0)) for rival in rivals]
        for kind in (RESIZED, ""):
            rows += [speed_row(rounds, f"{store}{kind}", f"original{kind}", 0) for store in stores if store != "original"]
        rows += [cpu_row(rounds, "original", files)]
    return rows + [store_row(rounds, store) for store in stores]


def speed_row(rounds: Rounds, ours: str, theirs: str, workers: int) -> Row:
    bar = BARS.get(ours, BARS.get(theirs))
    facts = ({} if bar is None else {"bar": bar}) | ({"workers": workers} if workers else {})
    for who, prefix in ((ours, ""), (theirs, "their_")):
        facts |= {
            f"{prefix}images_per_s": 1000 / median_seconds(rounds, who),
            f"{prefix}whole_images_per_s": median_fact(rounds, who, "whole_images_per_s"),
            f"{prefix}first_batch_s": median_fact(rounds, who, "first_batch_s"),
            f"{prefix}cpu_s": median_fact(rounds, who, "cpu_s"),
            f"{prefix}peak_mib": median_fact(rounds, who, "peak_bytes") / MEBI,
        }
    return row_of(f"{ours}: speed against {NAMES[theirs]}", speed_ratios(rounds, ours, theirs), facts)


def cpu_row(rounds: Rounds, store: str, files: Sequence[Path]) -> Row:
    """How much more CPU time than the bare loops; the facts are for 1,000 images."""
    roles = {f"{role}_cpu_s": median_fact(rounds, store, f"{role}_cpu_s") for role in Role}
    beside = {name: median_fact(rounds, "bare", fact) for name, fact in (("bare_cpu_s", "cpu_s"), ("idle_ray_cpu_s", "idle_ray_cpu_s"))}
    facts = roles | beside | {"images": len(files), "image_bytes": round(mean_bytes(files))}
    return row_of(f"{store}: CPU time against bare loops", fact_ratios(rounds, "cpu_s", store, "bare"), facts)


def store_row(rounds: Rounds, store: str) -> Row:
    ratios = [measured[store].facts["object_bytes"] / PIXEL_BYTES for measured in rounds]
    spilled = sum(measured[store].facts["spilled_bytes"] for measured in rounds)
    facts = {"bar": STORE_BAR, "object_bytes": median_fact(rounds, store, "object_bytes"), "spilled_bytes": spilled}
    return row_of(f"{store}: object store against pixels", ratios, facts)


def notes(homes: Mapping[str, Environment], options: Namespace) -> list[str]:
    """What the table does not say itself."""
    others = ", ".join(home.loader for home in homes.values())
    return [
        f"- Compared with: {others or 'bare loops alone'}, where torch is used {version('torch')}. Workers: the fastest number for each.",
        "- Everybody reads the same files from the page cache: loops and loaders the JPEGs, WebDataset tar files of them, ours its shards.",
        f"- Micro-batches of {options.batch} x {SIZE} x {SIZE} x 3 uint8 for one consumer that touches each page and computes nothing.",
        "- Bare loops that keep memory: glibc does not give the memory of each decoded image back to the system.",
        "- images_per_s: after an epoch to warm up, which counts in whole_images_per_s, and before more: reading ahead wins nothing.",
        "- first_batch_s: from the request; Ray runs, worker group and libraries are loaded. cpu_s: of all processes, for 1,000 images.",
        "- peak_mib: of all processes, without shared memory; object store: all bytes written to it, whatever for.",
    ]


if __name__ == "__main__":
    main()
