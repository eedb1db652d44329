"""The limit does the work that prepare does, on files that are what they claim to be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pictures
import pytest
from bare_loop import BareWork, run_bare_loops, work_of
from pictures import HEIGHT, QUALITY, WIDTH, list_pictures, mean_bytes, with_comment, write_pictures
from prepare_once import SIZE

from orchestrator.images.decode import decode
from orchestrator.images.frame import fit_frame
from orchestrator.images.store import encode
from orchestrator.testing import photo


@pytest.fixture(scope="module")
def jpeg() -> bytes:
    return encode(photo(np.random.default_rng(0), WIDTH, HEIGHT), "jpeg", QUALITY)


@pytest.mark.parametrize("store", ["jpeg", "png", "raw"])
def test_the_bare_loop_computes_what_prepare_stores(jpeg: bytes, store: str) -> None:
    """The same bytes, from fewer calls."""
    image = decode(jpeg, channels=3, max_pixels=WIDTH * HEIGHT)
    assert isinstance(image, np.ndarray)
    fitted = np.empty((SIZE, SIZE, 3), np.uint8)
    fit_frame(HEIGHT, WIDTH, SIZE, "crop").fill(image, fitted)
    assert work_of(jpeg, SIZE, store, 95).tobytes() == encode(fitted, store, 95)


def test_a_comment_changes_the_bytes_alone(jpeg: bytes) -> None:
    """Other bytes, the same pixels, and still an image that is taken."""
    commented = with_comment(jpeg, "copy 1")
    assert commented != jpeg
    assert work_of(commented, SIZE, "raw", 95).tobytes() == work_of(jpeg, SIZE, "raw", 95).tobytes()
    assert isinstance(decode(commented, channels=3, max_pixels=WIDTH * HEIGHT), np.ndarray)


def test_more_files_than_pictures_are_still_all_different(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the number that is drawn, each copy has bytes of its own, and the drawn ones stay for the next folder."""
    monkeypatch.setattr(pictures, "DRAWN", 3)
    files = list_pictures(write_pictures(tmp_path, 8))
    assert len({path.read_bytes() for path in files}) == 8
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pictures-3", "pictures-8"]


def test_pictures_are_made_once_and_worked_through(tmp_path: Path) -> None:
    """All different, as heavy as photographs; a second call finds them; every loop answers."""
    folder = write_pictures(tmp_path, 6)
    files = list_pictures(folder)
    times = [path.stat().st_mtime_ns for path in files]
    spent = run_bare_loops(BareWork(tuple(map(str, files)), 64, "jpeg", 95))

    assert len({path.read_bytes() for path in files}) == 6
    assert mean_bytes(files) > 0
    assert write_pictures(tmp_path, 6) == folder
    assert [path.stat().st_mtime_ns for path in list_pictures(folder)] == times
    assert [path.name for path in tmp_path.iterdir()] == ["pictures-6"]
    assert spent.seconds > 0
    assert spent.cpu_s > 0
