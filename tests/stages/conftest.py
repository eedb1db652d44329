"""One Ray for all tests of the stages, and small jobs on real folders of images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from workshop import Workshop, workshop_in


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """Ray on this machine, one for all tests; its workers import what stands beside this file."""
    from orchestrator.plan.values import ClusterShape
    from orchestrator.stages.cluster import local_cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        with local_cluster(ClusterShape(cpus=2, gpus=0)):
            yield


@pytest.fixture(params=["in-process", "ray"])
def in_process(request: pytest.FixtureRequest) -> bool:
    """Every test that asks for it runs on both engines."""
    if request.param == "ray":
        request.getfixturevalue("ray_cluster")
    return bool(request.param == "in-process")


@pytest.fixture
def make_workshop(tmp_path: Path) -> Callable[..., Workshop]:
    """`workshop_in` a folder of this test, which may be given a name."""
    return lambda images_per_class=40, name="work": workshop_in(tmp_path / name, images_per_class)
