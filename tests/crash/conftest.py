"""A small folder of images, and processes that prepare it under strace."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tracing import CannotTraceError, Preparers

from orchestrator.testing import write_image_folder


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fourteen images of two classes, two of them unreadable: two units to train with and one to validate."""
    source = write_image_folder(tmp_path_factory.mktemp("crash") / "images", classes=("disc", "ring"), images_per_class=6, size=16)
    (source / "disc" / "empty.png").write_bytes(b"")
    (source / "ring" / "page.png").write_text("<!DOCTYPE html>")
    return source


@pytest.fixture(scope="session")
def preparers(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Preparers]:
    """Skips where system calls cannot be traced."""
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    preparers = Preparers(source, count=2)
    tried = tmp_path_factory.mktemp("tried")
    try:
        preparers.one().trace(tried, tried / "log")
    except CannotTraceError as error:
        pytest.skip(f"strace may not trace here: {error}")
    else:
        yield preparers
    finally:
        preparers.close()
