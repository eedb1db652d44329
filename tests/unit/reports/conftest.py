"""Run folders as a real run leaves them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from recorded_run import write_run

from orchestrator.record.folder import RunFolder

MakeRun = Callable[..., RunFolder]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """`write_run` below a folder of its own."""
    return partial(write_run, tmp_path)
