"""What Ray must find before it is imported, for every test that uses it, and an S3 server for those that read from one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from faulty_proxy import FaultyProxy, faulty_proxy
from s3_server import PROGRAM, S3Server, running_server

from orchestrator.stages.environment import set_environment

os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.1")
set_environment(Path(tempfile.mkdtemp(prefix="orchestrator-tests-")) / "ray_token")


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """An S3 server for all tests; the environment names it, also for the workers of a Ray that starts later."""
    if not PROGRAM.is_file():
        pytest.skip("the S3 server is not installed; `make test` installs it")
    with running_server() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield server


@pytest.fixture
def s3_proxy(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """The way to the S3 server leads through a proxy that can be told to fail."""
    with faulty_proxy(s3_server.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        yield proxy
