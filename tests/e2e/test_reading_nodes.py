"""Nodes without a GPU do the decoding, so that it takes nothing from the processes that feed a GPU."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray_nodes import RayNodes
from shell import Shell

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def with_gpu() -> Iterator[RayNodes]:
    """Two nodes of two CPUs, of which the last test kills one; Ray believes that the head has a GPU."""
    cluster = RayNodes(head_gpus=1)
    yield cluster
    cluster.close()


def test_the_node_without_a_gpu_reads(shell: Shell, with_gpu: RayNodes) -> None:
    """Of two nodes that could read, the one with the GPU reads nothing; every image arrives."""
    shell.write_job()
    assert shell("prepare", "job.yaml", "--in-process").returncode == 0
    program = [sys.executable, str(Path(__file__).with_name("read_on_nodes.py")), with_gpu.gcs_address, str(shell.place)]
    done = subprocess.run(program, env=with_gpu.environment, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert len(answer["may"]) == 1
    assert answer["did"] == answer["may"]
    assert answer["images"] > 40


def test_nodes_that_read_are_missed(shell: Shell, with_gpu: RayNodes) -> None:
    """The only node that reads is killed: whoever takes from the streams gets an error as soon as Ray knows, and does not wait."""
    shell.write_job()
    assert shell("prepare", "job.yaml", "--in-process").returncode == 0
    command = [sys.executable, str(Path(__file__).with_name("lose_readers.py")), with_gpu.gcs_address, str(shell.place)]
    with subprocess.Popen(command, env=with_gpu.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "1 reads\n"
        with_gpu.kill_second_node()
        said, failed = program.communicate(timeout=200)
    assert "lost: True, ActorDiedError" in said.splitlines(), (said, failed)  # Ray prints there what it knows of the death
