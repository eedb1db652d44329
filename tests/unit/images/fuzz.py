"""Damaged images by the million through the process that decodes: `make fuzz`, or `python fuzz.py --help`.

It passes when every image got a result, no process of ours died, and none of them grew. Images that crash their decoder or take
too long are counted, and kept to look into.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from mutations import mutate
from source_files import black_and_white_bmp, encoded, flat_jpeg, oriented, plain, png_with, see_through, small_png

from orchestrator.images.isolated import PictureProcess
from orchestrator.images.picture import PixelWork
from orchestrator.images.verdict import Reason, Rejection
from orchestrator.testing import draw, photo, png_chunk

WORK = PixelWork(size=32, channels=3, fit="pad", store="jpeg", jpeg_quality=90, max_pixels=4_000_000, decode_cpu_s=5, decode_wall_s=120)
FAULTS = {Reason.DECODER_CRASH, Reason.DECODE_TIMEOUT, Reason.DECODE_OOM}
"""Verdicts on decoders rather than on images."""
WARM_UP = 500
"""Images after which a process has what it needs, and should grow no more."""
GROWTH_BYTES_MAX = 50_000_000
PROCESSES = 2


@dataclass
class Found:
    """What came of a number of damaged images."""

    images: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    faults: list[tuple[str, bytes]] = field(default_factory=list)
    growth_bytes: int = 0

    def add(self, other: Found) -> None:
        self.images += other.images
        self.verdicts += other.verdicts
        self.faults += other.faults
        self.growth_bytes = max(self.growth_bytes, other.growth_bytes)


def seeds() -> list[bytes]:
    """Small valid files of every format and of many kinds."""
    rng = np.random.default_rng(0)
    pictures = [photo(rng, 64, 48), draw(rng, 0, 32, 32)]
    files = [encoded(extension, picture) for extension in (".jpg", ".png", ".webp", ".bmp") for picture in pictures]
    forms = ("jpeg", "png", "png alpha", "webp", "webp alpha", "webp lossless")
    kinds = [small_png(0, 1, b"\x40"), small_png(2, 16, bytes(12)), small_png(3, 8, b"\0\1", png_chunk(b"PLTE", bytes(range(6))))]
    print_colours = [flat_jpeg((200, 100, 50, 220), 0), flat_jpeg((130, 110, 160, 220), 2)]
    chunks = png_with(png_chunk(b"iCCP", b"x\0\0" + bytes(20)), png_chunk(b"acTL", bytes(8)), png=see_through(".png"))
    return [*files, *map(plain, forms), *(oriented(form, 6) for form in forms), *kinds, *print_colours, chunks, black_and_white_bmp()]


def fuzz(images: int, seconds: float, seed: int) -> Found:
    """Damage and decode, in this process and a child of it, until there are enough images or it is time."""
    rng, sources, found = np.random.default_rng(seed), seeds(), Found()
    deadline = time.monotonic() + seconds
    sent: deque[bytes] = deque()

    def damaged() -> Iterator[bytes]:
        for _ in range(images):
            if time.monotonic() > deadline:
                return
            sent.append(mutate(sources, rng))
            yield sent[-1]

    warm_bytes = 0
    with PictureProcess() as pictures:
        for result in pictures.run(damaged(), WORK):
            image = sent.popleft()
            found.images += 1
            found.verdicts[result.reason.value if isinstance(result, Rejection) else "taken"] += 1
            if isinstance(result, Rejection) and result.reason in FAULTS:
                found.faults.append((f"{result.reason.value}: {result.detail}", image))
            if found.images == WARM_UP:
                warm_bytes = resident_bytes()
        found.growth_bytes = resident_bytes() - warm_bytes if warm_bytes else 0
    if sent:
        raise AssertionError(f"{len(sent)} images of seed {seed} have no result")
    return found


def resident_bytes() -> int:
    """Memory of this process and its children, in which the kernel keeps it."""
    processes = ["self", *Path("/proc/thread-self/children").read_text(encoding="ascii").split()]
    return sum(_resident_bytes(process) for process in processes)


def _resident_bytes(process: str) -> int:
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def render(found: Found) -> str:
    """A Markdown table of the verdicts."""
    rows = [f"| {verdict} | {count:,} | {count / found.images:.2%} |" for verdict, count in found.verdicts.most_common()]
    return "\n".join(["| verdict | images | share |", "|---|---|---|", *rows])


def main() -> int:
    """Both halves at once, each with its own seed; 1 where a process grew."""
    parser = argparse.ArgumentParser(description="Damaged images through the process that decodes.")
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=3600, help="it ends after so long, however many images there were")
    parser.add_argument("--seed", type=int, default=None, help="the one that an earlier run printed")
    parser.add_argument("--keep", type=Path, default=Path("build/fuzz"), help="where images go that their decoder did not survive")
    options = parser.parse_args()
    seed = secrets.randbelow(1 << 31) if options.seed is None else options.seed
    say(f"seed {seed}")
    started, found = time.monotonic(), Found()
    with ProcessPoolExecutor(PROCESSES) as pool:
        for part in pool.map(partial(fuzz, -(-options.images // PROCESSES), options.seconds), range(seed, seed + PROCESSES)):
            found.add(part)
    for number, (verdict, image) in enumerate(found.faults):
        options.keep.mkdir(parents=True, exist_ok=True)
        place = options.keep / f"{seed}-{number}.bin"
        place.write_bytes(image)
        say(f"{place}: {verdict}")
    say(render(found))
    say(f"\n{found.images:,} images in {time.monotonic() - started:.0f} s; a process grew by {found.growth_bytes / 1e6:.0f} MB at most")
    return 1 if found.growth_bytes > GROWTH_BYTES_MAX else 0


def say(text: str) -> None:
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
