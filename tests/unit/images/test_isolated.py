"""The process that prepares pictures for another: order, many lives, limits, and an end that leaves nothing behind."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from faulty_decoder import COMMAND
from source_files import encoded
from verdict_cases import WORK

from orchestrator.errors import OrchestratorError
from orchestrator.images.given import Seen
from orchestrator.images.isolated import IN_FLIGHT, PictureProcess, picture_process
from orchestrator.images.picture import PixelWork, StoredPicture, prepare_picture
from orchestrator.images.verdict import Reason, Rejection
from orchestrator.testing import draw, photo

MANY = 40


@pytest.fixture
def pictures() -> Iterator[PictureProcess]:
    with PictureProcess() as process:
        yield process


def children() -> set[int]:
    """Processes that this one has started and not yet buried."""
    return {int(name) for name in Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii").split()}


def wait_for_end(process: int, seconds: float = 10) -> bool:
    """Whether a process is gone, or a corpse, within some time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError):
            if Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z":
                time.sleep(0.02)
                continue
        return True
    return False


@pytest.mark.parametrize("store", ["original", "jpeg", "png", "raw"])
def test_results_are_those_of_the_function(pictures: PictureProcess, store: str) -> None:
    """In order, for small and large images, pictures and rejections; nothing depends on the process."""
    rng = np.random.default_rng(0)
    large = cv2.imencode(".png", rng.integers(0, 256, (900, 1000, 3), dtype=np.uint8))[1].tobytes()
    images = [large, b"", *(encoded(".jpg", draw(rng, number, 60, 40)) for number in range(MANY)), b"no image", large]
    work = replace(WORK, store=store, size=512)
    assert list(pictures.run(images, work)) == [prepare_picture(image, work) for image in images]


@dataclass(frozen=True)
class InFile:
    """An image in a file, of the size that was found when somebody looked."""

    path: bytes
    start: int | None
    size: int

    def read(self) -> bytes:
        content = Path(os.fsdecode(self.path)).read_bytes()
        if len(content) < self.size:
            raise OSError("it has become shorter")
        return content


def in_file(path: Path, content: bytes, begin: bytes = b"") -> InFile:
    """An image that is a file, or the end of one."""
    path.write_bytes(begin + content)
    return InFile(os.fsencode(path), len(begin) or None, len(content))


def seen_here(content: bytes) -> Seen:
    return Seen(len(content), hashlib.sha256(content).hexdigest(), prepare_picture(content, WORK))


def test_images_are_read_where_they_are_decoded(pictures: PictureProcess, tmp_path: Path) -> None:
    """Whole files and parts of files, beside images whose bytes are given; each with its size and hash."""
    contents = [encoded(".png"), encoded(".jpg"), b"no image", b""] * 5
    given = [
        content if number % 3 == 0 else in_file(tmp_path / f"{number}", content, b"something else" * (number % 3 - 1))
        for number, content in enumerate(contents)
    ]
    assert list(pictures.see(given, WORK)) == [seen_here(content) for content in contents]


def test_a_file_that_is_not_as_it_was_is_read_by_its_owner(pictures: PictureProcess, tmp_path: Path) -> None:
    """Who knows what that means: an error passes through; content that is had in another way is taken."""
    grown, gone, shorter = (in_file(tmp_path / name, encoded(".png")) for name in ("grown", "gone", "shorter"))
    (tmp_path / "grown").write_bytes(encoded(".jpg") + bytes(10_000))
    seen = list(pictures.see([encoded(".png"), grown, encoded(".png")], WORK))
    assert seen == [seen_here(content) for content in (encoded(".png"), (tmp_path / "grown").read_bytes(), encoded(".png"))]
    (tmp_path / "gone").unlink()
    with pytest.raises(FileNotFoundError):
        list(pictures.see([encoded(".png"), gone, encoded(".png")], WORK))
    (tmp_path / "shorter").write_bytes(b"")
    with pytest.raises(OSError, match="it has become shorter"):
        list(pictures.see([shorter] * 3, WORK))
    assert list(pictures.see([encoded(".png")], WORK)) == [seen_here(encoded(".png"))]


def test_an_image_that_kills_its_decoder_is_known_by_its_hash(tmp_path: Path) -> None:
    """The process that read it is dead; what is said of its file is as true."""
    with PictureProcess(COMMAND) as faulty:
        seen = list(faulty.see([in_file(tmp_path / "bad", b"segfault"), in_file(tmp_path / "good", encoded(".png"))], WORK))
    assert [(one.size, one.sha256) for one in seen] == [
        (len(content), hashlib.sha256(content).hexdigest()) for content in (b"segfault", encoded(".png"))
    ]
    assert [isinstance(one.result, Rejection) for one in seen] == [True, False]


def test_one_child_lives_for_many_calls(pictures: PictureProcess) -> None:
    """The same process answers for other work; another limit on pixels needs another process, because OpenCV reads it at its start."""
    before = children()

    def child_after(work: PixelWork) -> set[int]:
        assert all(isinstance(result, StoredPicture) for result in pictures.run([encoded(".png")] * 3, work))
        return children() - before

    first = child_after(WORK)
    assert len(first) == 1
    assert child_after(replace(WORK, size=32, channels=1)) == first
    second = child_after(replace(WORK, max_pixels=2_000_000))
    assert len(second) == 1
    assert second != first


def test_few_images_are_read_ahead(pictures: PictureProcess) -> None:
    """The images are taken one by one, a few more than there are results."""
    taken = 0

    def images() -> Iterator[bytes]:
        nonlocal taken
        for _ in range(MANY):
            taken += 1
            yield encoded(".png")

    for number, _ in enumerate(pictures.run(images(), WORK), start=1):
        assert taken <= number + IN_FLIGHT


def test_a_caller_that_stops_early_gets_no_result_of_another(pictures: PictureProcess) -> None:
    """What was sent ahead is forgotten with the child."""
    results = pictures.run([encoded(".png")] * MANY, WORK)
    next(results)
    results.close()
    assert list(pictures.run([b""], WORK)) == [prepare_picture(b"", WORK)]


def test_an_error_of_the_source_is_its_callers(pictures: PictureProcess) -> None:
    """An exception of the images passes through, and the next call works."""

    def broken() -> Iterator[bytes]:
        yield encoded(".png")
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(pictures.run(broken(), WORK))
    assert len(list(pictures.run([encoded(".png")], WORK))) == 1


def test_two_callers_at_once_are_told(pictures: PictureProcess) -> None:
    """A second conversation would take the answers of the first."""
    first = pictures.run([encoded(".png")] * MANY, WORK)
    next(first)
    with pytest.raises(RuntimeError, match="one caller at a time"):
        next(pictures.run([b""], WORK))
    assert len(list(first)) == MANY - 1


@pytest.mark.parametrize("name", ["killed", "segfault", "abort", "nonsense"])
def test_a_child_that_dies_once_costs_no_image(tmp_path: Path, name: str) -> None:
    """The image that it had is tried again: an out-of-memory killer does not make rejects."""
    with PictureProcess(COMMAND) as faulty:
        image = b"once:" + os.fsencode(tmp_path / "seen") + b":" + name.encode()
        result, behind = faulty.run([image, encoded(".png")], WORK)
    assert isinstance(result, Rejection)
    assert result.reason is Reason.NOT_AN_IMAGE
    assert isinstance(behind, StoredPicture)


def test_a_crash_says_how_it_came() -> None:
    """The signal, or the last words."""
    with PictureProcess(COMMAND) as faulty:
        details = [result.detail for result in faulty.run([b"segfault", b"raise"], WORK) if isinstance(result, Rejection)]
    assert details == ["the decoder ended with SIGSEGV", "the decoder ended with exit status 1: ValueError: a picture of shape ()"]


def test_many_crashes_in_a_row_are_many_verdicts() -> None:
    """Each bad image is named, each good one between them is prepared."""
    with PictureProcess(COMMAND) as faulty:
        results = list(faulty.run([b"segfault", encoded(".png")] * 4 + [b"segfault"] * 3, WORK))
    assert [isinstance(result, StoredPicture) for result in results] == [False, True] * 4 + [False] * 3


def test_a_child_that_hangs_is_ended_by_the_clock() -> None:
    """Without using the CPU, so that only the clock notices."""
    with PictureProcess(COMMAND) as faulty:
        work = replace(WORK, decode_wall_s=1)
        result, behind = faulty.run([b"sleep", encoded(".png")], work)
    assert result == Rejection(Reason.DECODE_TIMEOUT, "no answer in 1 s")
    assert isinstance(behind, StoredPicture)


def test_cpu_time_is_counted_for_each_image_anew() -> None:
    """Many images together may take longer than one is allowed to."""
    with PictureProcess() as pictures:
        image = cv2.imencode(".png", photo(np.random.default_rng(0), 1000, 900))[1].tobytes()
        started = time.process_time() + _children_cpu_s()
        results = list(pictures.run([image] * 20, replace(WORK, size=1000, store="png")))
    assert time.process_time() + _children_cpu_s() - started > WORK.decode_cpu_s
    assert all(isinstance(result, StoredPicture) for result in results)


def _children_cpu_s() -> float:
    times = os.times()
    return times.children_user + times.children_system


@pytest.mark.parametrize("extension", [".png", ".jpg", ".webp", ".bmp"])
@pytest.mark.parametrize("channels", [3, 4])
def test_the_largest_allowed_picture_has_room(extension: str, channels: int) -> None:
    """The memory that is left to the child suffices for every format, with transparency and without."""
    side = 3000
    image = np.random.default_rng(0).integers(0, 4, (side, side, channels), dtype=np.uint8)
    options = {".png": [cv2.IMWRITE_PNG_COMPRESSION, 1], ".webp": [cv2.IMWRITE_WEBP_QUALITY, 50], ".jpg": [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]}
    source = cv2.imencode(extension, image if extension in {".png", ".webp"} else image[:, :, :3], options.get(extension, []))[1].tobytes()
    with PictureProcess() as pictures:
        (result,) = pictures.run([source], replace(WORK, max_pixels=side * side))
    assert isinstance(result, StoredPicture), result


def test_a_child_that_cannot_start_is_an_error() -> None:
    """With its last words, at once; nothing is tried again and again."""
    before = children()
    with (
        PictureProcess((sys.executable, "-c", "import there_is_no_such_module")) as pictures,
        pytest.raises(OrchestratorError, match=r"does not start.*No module named 'there_is_no_such_module'"),
    ):
        list(pictures.run([b""], WORK))
    assert children() == before


def test_nothing_is_left_behind(pictures: PictureProcess) -> None:
    """Neither the child nor a descriptor."""
    list(pictures.run([b""], WORK))
    pictures.close()
    descriptors, processes = _descriptors(), children()
    for _ in range(3):
        list(pictures.run([b""], WORK))
        pictures.close()
    assert (_descriptors(), children()) == (descriptors, processes)


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


SHARED = """
import os, sys, time
from orchestrator.images.isolated import picture_process
from orchestrator.images.picture import PixelWork
assert picture_process() is picture_process()
list(picture_process().run([b"", b""], PixelWork(8, 3, "crop", "raw", 95, 1000)))
print(open(f"/proc/self/task/{os.getpid()}/children").read(), flush=True)
if sys.argv[1:]:
    time.sleep(600)
"""


def test_the_shared_child_ends_with_its_process() -> None:
    """At a normal end, and when the process is killed: a child is never an orphan."""
    ended = subprocess.run([sys.executable, "-c", SHARED], check=True, capture_output=True, text=True)
    assert wait_for_end(int(ended.stdout))
    with subprocess.Popen([sys.executable, "-c", SHARED, "wait"], stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout
        child = int(killed.stdout.readline())
        killed.kill()
    assert wait_for_end(child)


def test_ctrl_c_in_a_terminal_does_not_reach_the_child(pictures: PictureProcess) -> None:
    """Another process group, and a deaf ear: the images in flight are not blamed for it."""
    before = children()
    results = pictures.run([encoded(".png")] * MANY, WORK)
    next(results)
    (child,) = children() - before
    assert os.getpgid(child) != os.getpgid(0)
    os.kill(child, signal.SIGINT)
    assert all(isinstance(result, StoredPicture) for result in results)
    assert children() - before == {child}


def test_one_child_is_shared_by_a_process() -> None:
    """Whoever asks gets the same one."""
    assert picture_process() is picture_process()
