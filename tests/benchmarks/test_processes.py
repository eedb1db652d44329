"""What processes cost is seen while they live."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from processes import SAMPLE_S, MemoryWatch, Role, _role, cpu_between, cpu_seconds, memory_bytes

MEBI = 2**20
HOLD = "import sys\ndata = bytearray(b'1') * (64 << 20)\nsum(data[::16])\nprint('held', flush=True)\nsys.stdin.read()"


def test_cpu_time_is_what_was_added_in_between() -> None:
    """By role; a process that was not there before counts from its start."""
    before = {1: (Role.DRIVER, 5.0), 2: (Role.RAY, 1.0), 3: (Role.WORKER, 9.0)}
    after = {1: (Role.DRIVER, 5.5), 2: (Role.RAY, 1.0), 4: (Role.WORKER, 2.0)}
    assert cpu_between(before, after) == dict.fromkeys(Role, 0.0) | {Role.DRIVER: 0.5, Role.WORKER: 2.0}


def test_a_child_counts_for_the_run() -> None:
    """Its memory and its CPU time are seen, and the peak stays when it has ended."""
    before, cpu = memory_bytes(), cpu_seconds()
    with MemoryWatch() as watch, subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout
        assert child.stdout.readline() == b"held\n"
        seen, used = memory_bytes(), cpu_between(cpu, cpu_seconds())
        time.sleep(3 * SAMPLE_S)
    assert watch.peak_bytes - before > 48 * MEBI
    assert seen - before > 48 * MEBI
    assert sum(used.values()) > 0


@pytest.mark.parametrize(
    ("command", "role"),
    [
        (["/somewhere/raylet", "--python_worker_command=default_worker.py"], Role.RAY),
        (["python", "default_worker.py"], Role.WORKER),
        (["ray::ReadFeed"], Role.WORKER),
        (["ray::DashboardAgent"], Role.RAY),
        (["ray::SplitCoordinator.get"], Role.EXECUTOR),
        (["ray::RayTrainWorker"], Role.CONSUMER),
        (["gcs_server"], Role.RAY),
    ],
)
def test_a_process_is_known_by_its_command_line(command: list[str], role: Role) -> None:
    """What decides, what reads, what consumes, and Ray itself are told apart."""
    program = [command[0], "-c", "echo started; read line", *command[1:]]
    with subprocess.Popen(program, executable="/bin/sh", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout
        assert child.stdout.readline() == b"started\n"
        assert _role(child.pid) is role
