"""One Ray with all GPUs of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from workshop import Workshop, workshop_in

from orchestrator.launch.cluster import local_shape, start_engine


@pytest.fixture(scope="session")
def gpu_cluster() -> Iterator[None]:
    """Its workers multiply in full single precision, so that results can be compared with those of a CPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NVIDIA_TF32_OVERRIDE", "0")
        with start_engine(local_shape(), in_process=False):
            yield


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return workshop_in(tmp_path)
