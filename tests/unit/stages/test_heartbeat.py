"""Which worker is to blame when a group comes to a halt, and what a process tells of itself whose thread never comes back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.stages.heartbeat import (
    STACKS_SIGNAL,
    Hang,
    Heartbeat,
    Listener,
    Seat,
    beating,
    birth_of,
    place_of,
    read_heartbeats,
    stacks_file,
)

HANG_S = 60.0
AT_WORK = Heartbeat(rank=0, pid=1, born="1", node="n", beats=0, changes=0, doing="compute", epoch=0, step=5, usual_step_s=1.0)


def listen(group: Callable[[int], list[Heartbeat]], until_s: int) -> tuple[int, list[Hang]]:
    """Look once a second; when somebody was blamed, and who."""
    listener = Listener(HANG_S, 0.0)
    for now in range(1, until_s):
        if hangs := listener.hear(group(now), float(now)):
            return now, hangs
    return until_s, []


def alive(now: int, beat: Heartbeat) -> Heartbeat:
    """The process gives signs of life, and nothing gets done."""
    return replace(beat, beats=now)


def busy(now: int, beat: Heartbeat) -> Heartbeat:
    return replace(beat, beats=now, changes=now)


@pytest.mark.parametrize(("doing", "limit_s"), [("compute", 60), ("sync", 60), ("wait", 60), ("checkpoint", 60), ("start", 600)])
def test_a_process_without_a_sign_of_life_is_hung(doing: str, limit_s: int) -> None:
    """Whatever it was doing, and although its peer waits for it in the exchange; only while it starts it has ten times as long."""
    stopped = replace(AT_WORK, doing=doing)
    found_s, hangs = listen(lambda now: [stopped, alive(now, replace(AT_WORK, rank=1, doing="sync"))], 1000)
    assert limit_s < found_s <= limit_s + 3
    assert [(hang.beat.rank, hang.alive) for hang in hangs] == [(0, False)]
    assert "rank 0 gave no sign of life" in str(hangs[0])


@pytest.mark.parametrize(
    ("doing", "usual_step_s", "limit_s"),
    [
        ("compute", 1.0, 60),
        ("transfer", 1.0, 60),
        ("compute", 30.0, 300),
        ("compute", 0.0, 600),  # the first step, which may compile
        ("start", 0.0, 600),
        ("wait", 1.0, 600),
        ("validate", 1.0, 600),
        ("checkpoint", 1.0, 600),
        ("between steps", 1.0, 600),
    ],
)
def test_how_long_something_may_take(doing: str, usual_step_s: float, limit_s: int) -> None:
    """A step as long as ten usual ones, what has no usual time ten times as long; the peers that wait for it are not to blame."""
    stuck = replace(AT_WORK, doing=doing, usual_step_s=usual_step_s)
    found_s, hangs = listen(lambda now: [alive(now, stuck), alive(now, replace(stuck, rank=1, doing="sync"))], 1000)
    assert limit_s < found_s <= limit_s + 3
    assert [(hang.beat.rank, hang.alive) for hang in hangs] == [(0, True)]
    assert f"in {doing}, step 6 of epoch 1" in str(hangs[0])


def test_workers_that_all_wait_for_one_another_are_all_named() -> None:
    """An exchange in which everybody waits never ends."""
    waiting = replace(AT_WORK, doing="sync")
    _, hangs = listen(lambda now: [alive(now, replace(waiting, rank=rank)) for rank in range(3)], 100)
    assert [hang.beat.rank for hang in hangs] == [0, 1, 2]


def test_a_group_that_works_is_left_alone() -> None:
    """One that takes a minute for each of many micro-batches gets something done."""
    slow = replace(AT_WORK, usual_step_s=0.0)
    assert listen(lambda now: [busy(now // 55, replace(alive(now, slow), beats=now)), busy(now, replace(slow, rank=1))], 2000)[1] == []


def test_a_worker_that_has_ended_is_not_missed() -> None:
    """Its file is gone, the others go on."""
    ended = replace(AT_WORK, rank=1)
    assert listen(lambda now: [busy(now, AT_WORK), *([ended] if now < 50 else [])], 200)[1] == []


def test_time_in_which_nobody_looked_does_not_count() -> None:
    """After hours in which the whole machine slept the workers have their time anew."""
    listener = Listener(HANG_S, 0.0)
    assert listener.hear([AT_WORK], 1.0) == []
    assert listener.hear([AT_WORK], 7200.0) == []


PROGRAM = """\
import ctypes, sys
from pathlib import Path
from orchestrator.stages.heartbeat import Seat, beating

def work():
    ctypes.PyDLL(None).sleep(1000)

with beating(Path(sys.argv[1]), Seat(3, "here"), 1.0) as pulse:
    pulse.note("compute")
    work()
"""


@contextmanager
def stuck_process(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker in a call that never lets go of the interpreter."""
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(folder)])
    try:
        wait_until(lambda: bool(read_heartbeats(folder)))
        yield process
    finally:
        process.kill()
        process.wait()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_process_that_holds_the_interpreter_shows_its_stacks(tmp_path: Path) -> None:
    """No other thread of it runs, but the stacks tell the line of the call."""
    with stuck_process(tmp_path) as process:
        (beat,) = read_heartbeats(tmp_path)
        assert (beat.rank, beat.pid, beat.node, beat.born) == (3, process.pid, "here", birth_of(process.pid))
        stacks = stacks_file(tmp_path, 3)

        def place() -> str:
            return place_of(stacks.read_text(), "work")

        # the signal may come before the call
        wait_until(lambda: os.kill(process.pid, STACKS_SIGNAL) is None and place() == "<string>:6 in work")


def test_stacks_that_do_not_tell_give_no_place() -> None:
    """A stopped process leaves a sentence instead."""
    assert place_of("process 7 shows no stacks; its state is T (stopped)\n", "work") == ""


def test_a_worker_that_ends_leaves_nothing_behind(tmp_path: Path) -> None:
    """Neither a sign of life nor an empty file of stacks; the signal does again what it did before."""
    before = signal.getsignal(STACKS_SIGNAL)
    with beating(tmp_path, Seat(0, "here"), HANG_S):
        assert [beat.doing for beat in read_heartbeats(tmp_path)] == ["start"]
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(STACKS_SIGNAL) is before
