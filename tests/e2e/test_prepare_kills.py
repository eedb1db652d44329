"""kill -9 while Ray prepares images: what is committed in the end is what an undisturbed run commits."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from prepared_data import faults_of_visible, faults_of_whole
from ray_processes import busy_workers, working_in
from shell import Shell, wait_until

KILLS = int(os.environ.get("ORCHESTRATOR_KILLS", "3"))
SEED = int(os.environ.get("ORCHESTRATOR_KILLS_SEED", time.time_ns() % 2**32))
"""Of the moments of the kills; set it to see again what a failure has printed."""
WORKERS_KILLED = 3
DEADLINE_S = 240.0
"""For each start of the program; ten seconds on a machine that has nothing else to do."""


@dataclass(frozen=True)
class Job:
    """Some hundred images in many small units, and what an undisturbed run in one process makes of them."""

    source: Path
    units: int
    manifest: bytes


@pytest.fixture
def job(shell: Shell) -> Job:
    path = shell.write_job(images_per_class=100)
    path.write_text(path.read_text().replace("shard_rows: 32", "shard_rows: 6"))
    (shell.place / "images" / "disc" / "page.png").write_text("<!DOCTYPE html>")
    done = shell("prepare", "job.yaml", "--in-process", "--root", "undisturbed")
    assert done.returncode == 0, done.stderr
    (manifest,) = shell.place.glob("undisturbed/data/*/manifest.json")
    return Job(shell.place / "images", len(finished(shell.place / "undisturbed")), manifest.read_bytes())


def finished(root: Path) -> list[Path]:
    """The records of the units that are done."""
    return list(root.glob("data/*/units/*.json"))


@pytest.mark.slow
@pytest.mark.timeout(KILLS * 2 * DEADLINE_S)
def test_prepare_survives_kills_of_the_program_at_any_moment(shell: Shell, job: Job) -> None:
    """kill -9 of the driver at random: never part of a data set, and the next run commits every image once, with the same manifest."""
    chance = random.Random(SEED)  # noqa: S311 -- moments, not secrets
    early = 0
    for number in range(KILLS):
        root = shell.place / f"root-{number}"
        units, delay_s = chance.randrange(job.units), chance.uniform(0, 0.2)
        program = shell.start("prepare", "job.yaml", "--root", str(root))
        wait_until(lambda root=root, units=units: len(finished(root)) >= units, DEADLINE_S)  # type: ignore[misc]
        with suppress(subprocess.TimeoutExpired):
            program.process.wait(delay_s)
        program.kill()
        early += not list(root.glob("data/*/manifest.json"))
        said = f"ORCHESTRATOR_KILLS_SEED={SEED}, kill {number}: {units} units and {delay_s:.3f} s"
        assert faults_of_visible(root, job.source) == [], said
        wait_until(lambda: not list(working_in(shell.place)))
        assert faults_of_visible(root, job.source) == [], said

        code, output = shell.start("prepare", "job.yaml", "--root", str(root)).wait(DEADLINE_S)
        assert code == 0, f"{said}\n{output}"
        assert faults_of_whole(root, job.source, job.manifest) == [], said
    assert early, f"ORCHESTRATOR_KILLS_SEED={SEED}: every kill came too late to prove anything"


@pytest.mark.slow
def test_prepare_survives_kills_of_its_workers(shell: Shell, job: Job) -> None:
    """kill -9 of Ray workers with a unit in hand: the run itself goes on to the end, and the manifest is the same."""
    root = shell.place / "root"
    program = shell.start("prepare", "job.yaml", "--root", str(root))
    killed: set[int] = set()

    def has_killed() -> bool:
        for pid in busy_workers(shell.place):
            if pid not in killed and len(finished(root)) > len(killed):
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
                break
        return len(killed) == WORKERS_KILLED or program.process.poll() is not None

    wait_until(has_killed, DEADLINE_S)
    code, output = program.wait(DEADLINE_S)
    assert code == 0, output
    assert len(killed) == WORKERS_KILLED
    assert faults_of_whole(root, job.source, job.manifest) == []
