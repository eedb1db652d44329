"""Listing a folder of a million files against the least that anybody has to do: read the folders, and ask for size and time of each file.

Run it with `make bench-listing`. Each measurement is a process of its own, whose peak memory is that of the listing.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from start import parser_of
from table import Measure, interleave, median_fact, median_seconds, publish, row_of, speed_ratios

FOLDERS = 500
"""Class folders that the files are spread over."""
BAR_PER_S = 50_000
BAR_BYTES = 2**30
MEBI = 2**20


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, write `listing.json`."""
    options = parse(arguments)
    if options.measure:
        print(json.dumps(MEASURED[options.measure](str(options.folder))))  # noqa: T201 -- the answer to the process that asked
        return
    files = write_files(options.folder / "data", options.files)
    rounds = interleave(1 + options.repeats, {name: partial(measure, name, files) for name in MEASURED})[1:]  # the first warms the cache
    facts = {
        "bar_per_s": BAR_PER_S,
        "files": options.files,
        "files_per_s": options.files / median_seconds(rounds, "ours"),
        "peak_mib": median_fact(rounds, "ours", "peak_bytes") / MEBI,
        "bar_mib": BAR_BYTES / MEBI,
    }
    publish(
        "listing",
        [row_of("listing against reading folders and asking for facts", speed_ratios(rounds, "ours", "bare"), facts)],
        options.folder,
    )


def parse(arguments: Sequence[str] | None) -> Namespace:
    parser = parser_of(__doc__, "the files and the result")
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--measure", choices=sorted(MEASURED), help="measure once, in this process, on --folder")
    return parser.parse_args(arguments)


def write_files(place: Path, count: int) -> Path:
    """Empty files in class folders, made where they are missing."""
    root = place / f"listing-{count}"
    for number in range(FOLDERS):
        folder = root / f"class{number:03}"
        folder.mkdir(parents=True, exist_ok=True)
        wanted = range(number, count, FOLDERS)
        if sum(1 for _ in os.scandir(folder)) < len(wanted):
            for name in wanted:
                (folder / f"image-{name:08}.jpg").touch()
    return root


def measure(name: str, files: Path) -> Measure:
    command = [sys.executable, __file__, "--measure", name, "--folder", str(files.resolve())]
    answer = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return Measure(answer["seconds"], {"peak_bytes": answer["peak_bytes"]})


def _timed(work: Callable[[str], int], folder: str) -> dict[str, float]:
    started = time.perf_counter()
    found = work(folder)
    seconds = time.perf_counter() - started
    assert found, f"no files in {folder}"
    return {"seconds": seconds, "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def _list(folder: str) -> int:
    """What `find_images` does with a source: list it, divide it, name it."""
    from orchestrator.dataset.fingerprint import fingerprint
    from orchestrator.dataset.sources.find import list_images
    from orchestrator.dataset.splits import assign_splits

    listing = list_images(folder)
    table = assign_splits(listing, validation=0.1, test=0.1, seed=0)
    fingerprint(table, {}, listing.classes)
    return int(table.num_rows)


def _walk(folder: str) -> int:
    return sum(entry.stat().st_mtime_ns > 0 for top in os.scandir(folder) for entry in os.scandir(top.path))


MEASURED: dict[str, Callable[[str], dict[str, float]]] = {"bare": partial(_timed, _walk), "ours": partial(_timed, _list)}

if __name__ == "__main__":
    main()
