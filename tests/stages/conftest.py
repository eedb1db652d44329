"""One Ray for all tests of the stages, and small jobs on real folders of images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from workshop import CLASSES, JOB, Workshop

from orchestrator.record.folder import Root
from orchestrator.testing import write_image_folder


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
    """A job on `images_per_class` images of three classes."""

    def make(images_per_class: int = 40, name: str = "work") -> Workshop:
        place = tmp_path / name
        images = write_image_folder(place / "images", classes=CLASSES, images_per_class=images_per_class, size=16)
        job = place / "job.yaml"
        job.write_text(JOB.format(source=images))
        return Workshop(images, Root(place / "root"), job)

    return make
