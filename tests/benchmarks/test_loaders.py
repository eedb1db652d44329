"""Other loaders are asked for the same work, and everybody is measured by the same consumer."""

from __future__ import annotations

import os
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from consume import Course, consume
from environments import PACKAGES, environment_of, requirements_of
from loaders import LOADERS, Order, run_loader, torch_batches
from numpy.typing import NDArray
from pictures import list_pictures, write_pictures
from tars import TARS, write_tars

BATCH, IMAGES = 4, 18
COURSE = Course(epoch_batches=4, epochs=2, after=3)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("data"), IMAGES)


def test_the_middle_of_a_course_is_timed() -> None:
    """Epochs before and after are consumed and do not count; nothing is read before the request."""
    taken: list[int] = []
    waiting = batches_until(COURSE.epoch_batches * COURSE.all_epochs, taken)
    assert taken == []
    consumed = consume(waiting, COURSE, os.getpid())
    assert len(taken) == COURSE.epoch_batches * COURSE.all_epochs == 28
    assert (consumed.images, consumed.whole_images) == (32, 48)
    assert 0 < consumed.first_batch_s < consumed.whole_s
    assert 0 < consumed.seconds < consumed.whole_s
    assert consumed.peak_bytes > 0


def test_a_course_that_was_read_ahead_does_not_count() -> None:
    """Where nothing is left to read when the timed epochs end, they were partly read before they began, which would look like speed."""
    last_slow = COURSE.epoch_batches * (1 + COURSE.epochs)
    with pytest.raises(ValueError, match="read before"):
        consume(batches_until(COURSE.epoch_batches * COURSE.all_epochs, [], slow_until=last_slow), COURSE, os.getpid())


def batches_until(count: int, taken: list[int], slow_until: int | None = None) -> Iterator[NDArray[np.uint8]]:
    """Batches that take as long as one another to make, up to `slow_until`, and none of the others any time."""
    for number in range(count):
        taken.append(number)
        if slow_until is None or number < slow_until:
            compute_for(0.005)
        yield np.full((BATCH, 8, 8, 3), number, np.uint8)


def compute_for(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def test_a_loader_in_a_process_of_its_own_gives_whole_batches(pictures: Path) -> None:
    """As many as the course has; images of an epoch that fill no batch are left out."""
    course = replace(COURSE, epochs=20)  # the system counts CPU time in hundredths of a second, by samples
    consumed = run_loader(Path(sys.executable), Order("torch", str(pictures), BATCH, 1, course))
    assert consumed.images == course.epochs * course.epoch_batches * BATCH
    assert consumed.cpu_s["driver"] > 0


def test_batches_hold_pixels(pictures: Path) -> None:
    """(M, 224, 224, 3) uint8, of pictures that are not empty."""
    batches = list(torch_batches(Order("torch", str(pictures), BATCH, 1, COURSE)))
    assert [batch.shape for batch in batches] == [(BATCH, 224, 224, 3)] * COURSE.epoch_batches * COURSE.all_epochs
    assert {batch.dtype for batch in batches} == {np.dtype(np.uint8)}
    assert all(image.std() > 1 for batch in batches for image in batch)


def test_tars_hold_the_files(pictures: Path, tmp_path: Path) -> None:
    """Each file once, byte for byte, beside the number of its class."""
    files = list_pictures(pictures)
    content: dict[str, bytes] = {}
    tars = sorted(write_tars(files, tmp_path / "tars").iterdir())
    for path in tars:
        with tarfile.open(path) as tar:
            content |= {name: tar.extractfile(name).read() for name in tar.getnames()}  # type: ignore[union-attr]
    assert len(tars) == TARS
    assert content == {f"{path.stem}.jpg": path.read_bytes() for path in files} | {
        f"{path.stem}.cls": path.parent.name.removeprefix("class-").encode() for path in files
    }


def test_environments_are_pinned(tmp_path: Path) -> None:
    """Every package that is asked for has one version, ours where we have it; a loader of ours needs no environment."""
    assert environment_of("torch", tmp_path).python == Path(sys.executable)
    assert set(PACKAGES) < set(LOADERS)
    for loader in PACKAGES:
        requirements = requirements_of(loader)
        assert all(requirement.count("==") == 1 for requirement in requirements)
        assert any(requirement.startswith("opencv-python-headless==") for requirement in requirements)
