"""prepare against bare OpenCV loops: speed, CPU time, memory, and what it costs to spread it over raylets.

Run it with `make bench-prepare`. Memory and raylets have a Ray of their own each time.
"""

from __future__ import annotations

import os
import statistics
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

from bare_loop import BareWork, run_bare_loops
from pictures import list_pictures, mean_bytes, write_pictures
from prepare_once import Workplace, job_of, prepare_once
from processes import MemoryWatch, Role, cpu_between, cpu_seconds
from ray_nodes import RayNodes
from start import parser_of, say
from table import Measure, Rounds, Row, fact_ratios, interleave, median_fact, median_seconds, publish, row_of, speed_ratios

from orchestrator.launch.cluster import TOKEN, local_shape, start_engine
from orchestrator.spec.job import JobSpec
from orchestrator.stages.environment import set_environment

STORES = ("jpeg", "raw", "png")
BAR = 0.85
"""Of the bare loops, from the listing to the committed shards."""
RAYLETS_BAR = 0.9
"""Of what one raylet does with the same CPUs."""
TIMED_ON_RAYLETS = 3
"""Prepares on raylets that were started once; their median counts."""
ROLES = (Role.DRIVER, Role.WORKER, Role.RAY)
MEBI = 2**20


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure everything, print the table, write `prepare.json`."""
    options = parse(arguments)
    set_environment(TOKEN)
    say(f"pictures in {options.folder}/data, made where they are missing: {options.images:,} to time, {options.many:,} for memory")
    pictures = write_pictures(options.folder / "data", options.images)
    rows = compare_with_bare_loops(pictures, options)
    if options.many:
        rows.append(compare_memory(pictures, write_pictures(options.folder / "data", options.many), options.folder))
    if options.raylets:
        rows += compare_raylets(pictures, options)
    publish("prepare", rows, options.folder)


def parse(arguments: Sequence[str] | None) -> Namespace:
    parser = parser_of(__doc__, "the pictures and the results")
    parser.add_argument("--images", type=int, default=2_000, help="images of every timed prepare")
    parser.add_argument("--many", type=int, default=20_000, help="images of the second measurement of memory; 0 leaves both out")
    parser.add_argument("--repeats", type=int, default=5, help="rounds of jpeg against the bare loops; of everything else about half")
    parser.add_argument("--raylets", type=int, nargs="*", default=[1, 2, 4], help="numbers of raylets that share the same CPUs")
    parser.add_argument("--stores", nargs="+", choices=STORES, default=STORES, help="what is stored in the timed prepares")
    return parser.parse_args(arguments)


def about_half(repeats: int) -> int:
    return -(-repeats // 2)


def compare_with_bare_loops(pictures: Path, options: Namespace) -> list[Row]:
    """The same files and the same pixel work, in turns."""
    files = list_pictures(pictures)
    rows: list[Row] = []
    with our_ray(options.folder) as (place, start_s):
        for store in options.stores:
            job = job_of(pictures, store)
            repeats = options.repeats if store == "jpeg" else about_half(options.repeats)
            say(f"{store}: {repeats} rounds, after one that starts the workers and does not count")
            rounds = interleave(1 + repeats, {"bare": partial(bare, job, files), "ours": partial(ours, job, place, len(files))})[1:]
            rows += [speed_row(store, rounds, files, start_s), cpu_row(store, rounds, len(files))]
    return rows


@contextmanager
def our_ray(folder: Path) -> Iterator[tuple[Workplace, float]]:
    """A Ray on this machine, and the seconds that its start took."""
    shape, started = local_shape(), time.perf_counter()
    with start_engine(shape, in_process=False) as engine:
        yield Workplace(engine, shape, folder), time.perf_counter() - started


def bare(job: JobSpec, files: Sequence[Path]) -> Measure:
    image, before = job.data.image, cpu_seconds()
    spent = run_bare_loops(BareWork(tuple(str(file) for file in files), image.size, image.store, image.jpeg_quality))
    beside = cpu_between(before, cpu_seconds())
    return Measure(spent.seconds, {"cpu_s": spent.cpu_s, "idle_ray_cpu_s": beside[Role.RAY] + beside[Role.WORKER]})


def ours(job: JobSpec, place: Workplace, images: int) -> Measure:
    before = cpu_seconds()
    prepared = prepare_once(job, place)
    used = cpu_between(before, cpu_seconds())
    assert prepared.images == images, f"{prepared.images} of {images} images were prepared"
    roles = {f"{role}_cpu_s": used[role] for role in ROLES}
    return Measure(prepared.seconds, {"first_unit_s": prepared.first_unit_s, "cpu_s": sum(used.values()), **roles})


def speed_row(store: str, rounds: Rounds, files: Sequence[Path], start_s: float) -> Row:
    facts = {
        "bar": BAR,
        "images": len(files),
        "image_bytes": round(mean_bytes(files)),
        "images_per_s": len(files) / median_seconds(rounds, "ours"),
        "bare_images_per_s": len(files) / median_seconds(rounds, "bare"),
        "first_unit_s": median_fact(rounds, "ours", "first_unit_s"),
        "ray_start_s": start_s,
    }
    return row_of(f"{store}: speed against bare loops", speed_ratios(rounds, "ours", "bare"), facts)


def cpu_row(store: str, rounds: Rounds, images: int) -> Row:
    """How much more CPU time than the bare loops; the facts are for 1,000 images."""
    per_thousand = {f"{role}_cpu_s": median_fact(rounds, "ours", f"{role}_cpu_s") * 1000 / images for role in ROLES}
    beside = {
        "bare_cpu_s": median_fact(rounds, "bare", "cpu_s") * 1000 / images,
        "idle_ray_cpu_s": median_fact(rounds, "bare", "idle_ray_cpu_s") * 1000 / images,
    }
    return row_of(f"{store}: CPU time against bare loops", fact_ratios(rounds, "cpu_s", "ours", "bare"), per_thousand | beside)


def compare_memory(few: Path, many: Path, folder: Path) -> Row:
    """What prepare holds should not grow with the images."""
    say("memory: a few images, then many")
    small, large = peak_memory(few, folder), peak_memory(many, folder)
    facts = {
        "few_images": len(list_pictures(few)),
        "many_images": len(list_pictures(many)),
        "idle_mib": small.first_bytes / MEBI,
        "few_peak_mib": small.peak_bytes / MEBI,
        "many_peak_mib": large.peak_bytes / MEBI,
    }
    return row_of("jpeg: peak memory of many images against few", [large.peak_bytes / small.peak_bytes], facts)


def peak_memory(pictures: Path, folder: Path) -> MemoryWatch:
    """Of all processes while one prepare runs on a Ray that was started for it."""
    with our_ray(folder) as (place, _), MemoryWatch() as watch:
        prepared = prepare_once(job_of(pictures, "jpeg"), place)
    assert prepared.images == len(list_pictures(pictures))
    return watch


def compare_raylets(pictures: Path, options: Namespace) -> list[Row]:
    """The same number of logical CPUs in one raylet, and divided between several."""
    job, images, cpus = job_of(pictures, "jpeg"), len(list_pictures(pictures)), max(options.raylets)
    first, *others = options.raylets
    say(f"raylets: {about_half(options.repeats)} rounds of {', '.join(map(str, options.raylets))} with {cpus} CPUs in all")
    measures = {str(count): partial(on_raylets, count, cpus // count, job, images, options.folder) for count in options.raylets}
    rounds = interleave(about_half(options.repeats), measures)
    speed = {name: images / median_seconds(rounds, name) for name in measures}
    return [
        row_of(
            f"jpeg: speed of {count} raylets against {first}",
            speed_ratios(rounds, str(count), str(first)),
            {
                "bar": RAYLETS_BAR,
                "images": images,
                "cpus": cpus,
                "images_per_s": speed[str(count)],
                "first_images_per_s": speed[str(first)],
            },
        )
        for count in others
    ]


def on_raylets(count: int, cpus: int, job: JobSpec, images: int, folder: Path) -> Measure:
    """On raylets that are started for it; the first prepare starts their workers and does not count."""
    from orchestrator.stages.cluster import running_cluster
    from orchestrator.stages.on_ray import RayEngine

    token = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
    with closing(RayNodes(count, cpus, token=token)) as nodes, running_cluster(nodes.gcs_address) as (shape, _):
        assert (shape.nodes, shape.cpus) == (count, count * cpus)
        place = Workplace(RayEngine(), shape, folder)
        prepared = [prepare_once(job, place) for _ in range(1 + TIMED_ON_RAYLETS)]
    assert {one.images for one in prepared} == {images}
    return Measure(statistics.median(one.seconds for one in prepared[1:]))


if __name__ == "__main__":
    main()
