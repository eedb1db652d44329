"""Two writers on storage without locks: one is frozen after each of its system calls, while the other one prepares and commits."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prepared_data import faults_of_visible
from tracing import Call, Ended, ForkServer, ForkServers, parse_log

pytestmark = pytest.mark.slow
DONE = Ended(0, "")


@pytest.fixture(scope="module")
def frozen(preparers: ForkServers, source: Path) -> Iterator[ForkServer]:
    """The writer that is frozen; there is one only where processes can be traced."""
    preparer = ForkServer("prepare_small.py", source, "unlocked")
    yield preparer
    preparer.close()


@pytest.fixture(scope="module", params=["the same images", "other images"])
def rival(request: pytest.FixtureRequest, source: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    """The other writer; by names, sizes and times its images are always the same."""
    images = tmp_path_factory.mktemp("rival") / "images"
    shutil.copytree(source, images)
    if request.param == "other images":
        for name in ("disc/00000.png", "ring/page.png"):
            facts = (images / name).stat()
            (images / name).write_bytes(b"\xff" * facts.st_size)
            os.utime(images / name, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    preparer = ForkServer("prepare_small.py", images, "unlocked")
    yield preparer
    preparer.close()


def freeze_at(call: Call) -> tuple[str, str]:
    return "-e", f"inject={call.name}:signal=SIGSTOP:when={call.nth}"


def wait_until_stopped(log: Path) -> None:
    """After it was let go on: every child is stopped once before its first step."""
    deadline = time.monotonic() + 60
    while "--- stopped by SIGSTOP ---" not in log.read_text().partition("SIGCONT")[2]:
        assert time.monotonic() < deadline, f"nothing was stopped: {log}"
        time.sleep(0.002)


def test_a_frozen_writer_and_its_rival_leave_one_sound_data_set(
    frozen: ForkServer, rival: ForkServer, source: Path, tmp_path: Path
) -> None:
    """Whenever one is frozen, one of the two commits, whoever does not is told of a conflict, and the data stays sound when the
    frozen one goes on. Where both read the same images both succeed.
    """
    log = tmp_path / "log"
    assert frozen.trace(tmp_path / "alone", log) == DONE
    calls = [call for call in parse_log(log.read_text()) if call.changes(tmp_path / "alone")]
    (manifest,) = (tmp_path / "alone").glob("data/*/manifest.json")
    assert rival.run(tmp_path / "rival") == DONE
    (other,) = (tmp_path / "rival").glob("data/*/manifest.json")
    same = other.read_bytes() == manifest.read_bytes()

    faults: list[str] = []
    conflicts = 0
    for call in calls:
        place, log = tmp_path / f"{call.name}-{call.nth}", tmp_path / f"{call.name}-{call.nth}.log"
        rivals: list[Ended] = []

        def overtake(child: int, place: Path = place, log: Path = log, rivals: list[Ended] = rivals) -> None:
            wait_until_stopped(log)
            rivals.append(rival.run(place))
            os.kill(child, signal.SIGCONT)

        ended = [frozen.trace(place, log, *freeze_at(call), meanwhile=overtake), *rivals]
        conflicts += ended[0] != DONE
        fitting = ended == [DONE, DONE] if same else DONE in ended and all(one == DONE or "another writer" in one.said for one in ended)
        found = [f"ended with {ended}"] * (not fitting) + faults_of_visible(place, source)
        found += [] if len(list(place.rglob("manifest.json"))) == 1 else ["there is no data set"]
        faults += [f"frozen after {call}: {fault}" for fault in found]
    assert not faults, "\n".join(faults)
    assert len(calls) >= 80
    assert bool(conflicts) is not same
