"""Small folders of images, and processes that prepare them and train on them, also under strace."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import prepare_small
import pytest
from tracing import CannotTraceError, ForkServers

from orchestrator.testing import write_image_folder


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fourteen images of two classes, two of them unreadable: two units to train with and one to validate."""
    source = write_image_folder(tmp_path_factory.mktemp("crash") / "images", classes=("disc", "ring"), images_per_class=6, size=16)
    (source / "disc" / "empty.png").write_bytes(b"")
    (source / "ring" / "page.png").write_text("<!DOCTYPE html>")
    return source


@pytest.fixture(scope="session")
def preparers(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServers]:
    """Skips where system calls cannot be traced."""
    with closing(ForkServers(2, "prepare_small.py", source)) as preparers:
        check_tracing(preparers, tmp_path_factory.mktemp("tried"))
        yield preparers


@pytest.fixture(scope="session")
def trainers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServers]:
    """They train on 84 images, ten steps of eight an epoch, and validate on 28."""
    place = tmp_path_factory.mktemp("trained")
    images = write_image_folder(place / "images", classes=("disc", "ring"), images_per_class=56, size=16)
    prepare_small.prepare(images, place, unlocked=True)
    (manifest,) = place.glob("data/*/manifest.json")
    with closing(ForkServers(2, "train_small.py", manifest.parent)) as trainers:
        yield trainers


def check_tracing(servers: ForkServers, place: Path) -> None:
    """Skips the test where system calls cannot be traced."""
    if not shutil.which("strace"):
        pytest.skip("strace is not installed: apt-get install strace")
    try:
        servers.one().trace(place, place / "log")
    except CannotTraceError as error:
        pytest.skip(f"strace may not trace here: {error}")
