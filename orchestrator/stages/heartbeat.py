"""Signs of life of the workers of a group, and the rule that tells a hung worker from one that is slow or waits for another.

Each worker has a file `rank-<r>.json`, written anew about once a second by a thread of its own, and a file
`rank-<r>.stacks`, into which the process writes the Python stacks of all its threads when it receives STACKS_SIGNAL,
also while one of them never lets go of the interpreter.

Intended behaviour; any difference is a bug:
1. A worker whose process writes nothing is hung after `hang_s` seconds: it is stopped, or a call holds the interpreter.
2. A worker in the middle of a step is hung after the longer of `hang_s` and ten times its usual step.
3. What has no usual time (the start with the first two steps, waiting for images, validation, checkpoints) may take ten times that.
4. A worker that exchanges gradients waits for others and is not to blame, unless all workers wait.
5. Time in which nobody looked does not count.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from orchestrator.training.pulse import START, Pulse

STACKS_SIGNAL = signal.SIGUSR1
BEAT_S = 1.0
"""Seconds between signs of life, and between looks."""
LOOK_COUNTS_S = 2.0
"""At most this much of the time since the last look counts."""
PATIENCE = 10
"""How many usual steps one step may take; and how much longer what has no usual time may take than a step."""
TIMED, EXCHANGE = ("transfer", "compute"), "sync"
"""Parts of a `Stopwatch`: those with a usual time, and the one that waits for the other workers."""
RECORD_BYTES = 512
OF_WORKERS = "rank-*"
"""Files that belong to workers."""


@dataclass(frozen=True)
class Seat:
    """The place of a worker."""

    rank: int
    node: str
    """Ray's id of it."""


@dataclass(frozen=True)
class Heartbeat:
    """What a worker says of itself."""

    rank: int
    pid: int
    born: str
    """When its process began: with the pid, no other process is taken for it."""
    node: str
    beats: int
    """Grows with every sign of life."""
    changes: int
    """Grows with all that gets done."""
    doing: str
    epoch: int
    step: int
    usual_step_s: float
    """0 before two steps have ended."""

    @property
    def where(self) -> str:
        return f"{self.doing}, step {self.step + 1} of epoch {self.epoch + 1}"


@dataclass(frozen=True)
class Hang:
    """A worker that does nothing."""

    beat: Heartbeat
    seconds: float
    alive: bool
    """Its process still gives signs of life."""

    def __str__(self) -> str:
        if self.alive:
            return f"rank {self.beat.rank} did nothing for {self.seconds:.0f} s in {self.beat.where}"
        return f"rank {self.beat.rank} gave no sign of life for {self.seconds:.0f} s, last seen in {self.beat.where}"


def heartbeat_file(folder: Path, rank: int) -> Path:
    return folder / f"rank-{rank}.json"


def stacks_file(folder: Path, rank: int) -> Path:
    return folder / f"rank-{rank}.stacks"


def birth_of(pid: int) -> str:
    """When a process of this machine began, in the kernel's own unit; empty when there is none, or no such thing as /proc."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return ""


def beat_seconds(hang_s: float) -> float:
    return min(BEAT_S, hang_s / 10)


@contextmanager
def beating(folder: Path, seat: Seat, hang_s: float) -> Iterator[Pulse]:
    """While the context lasts this process gives signs of life, and shows its stacks when it is asked to."""
    folder.mkdir(parents=True, exist_ok=True)
    path, stacks, pulse, ended = heartbeat_file(folder, seat.rank), stacks_file(folder, seat.rank), Pulse(), threading.Event()
    heart = _Heart(path, seat, pulse)
    thread = threading.Thread(target=heart.beat_until, args=(ended, beat_seconds(hang_s)), name="heartbeat", daemon=True)
    with stacks.open("w") as file:
        faulthandler.register(STACKS_SIGNAL, file)
        heart.beat()
        thread.start()
        try:
            yield pulse
        finally:
            ended.set()
            thread.join()
            path.unlink(missing_ok=True)
            faulthandler.unregister(STACKS_SIGNAL)
    with suppress(FileNotFoundError):  # forgotten already
        if not stacks.stat().st_size:
            stacks.unlink()


class _Heart:
    """Writes the signs of life of this process."""

    def __init__(self, path: Path, seat: Seat, pulse: Pulse) -> None:
        self._path, self._seat, self._pulse = path, seat, pulse
        self._pid, self._born, self._beats = os.getpid(), birth_of(os.getpid()), 0

    def beat(self) -> None:
        self._beats += 1
        seat, pulse = self._seat, self._pulse
        beat = Heartbeat(
            rank=seat.rank,
            pid=self._pid,
            born=self._born,
            node=seat.node,
            beats=self._beats,
            changes=pulse.changes,
            doing=pulse.doing,
            epoch=pulse.epoch,
            step=pulse.step,
            usual_step_s=pulse.usual_step_s,
        )
        with suppress(OSError):  # of storage that fails the checkpoints tell; a file that is gone is not wanted any more
            _write_in_place(self._path, json.dumps(asdict(beat)).encode().ljust(RECORD_BYTES), first=self._beats == 1)

    def beat_until(self, ended: threading.Event, every_s: float) -> None:
        while not ended.wait(every_s):
            self.beat()


def _write_in_place(path: Path, record: bytes, *, first: bool) -> None:
    """Needs no space once the file is there; closing it makes it visible to other machines."""
    descriptor = os.open(path, os.O_WRONLY | (os.O_CREAT if first else 0), 0o644)
    try:
        os.pwrite(descriptor, record, 0)
    finally:
        os.close(descriptor)


def read_heartbeats(folder: Path) -> list[Heartbeat]:
    """What the workers that are at work say of themselves; one whose file is being written is left out."""
    beats = []
    for path in sorted(folder.glob("rank-*.json")):
        with suppress(OSError, ValueError, TypeError):
            beats.append(Heartbeat(**json.loads(path.read_bytes())))
    return beats


@dataclass
class _Heard:
    """What was last heard of a worker, and for how long nothing new."""

    beat: Heartbeat
    silent_s: float = 0.0
    idle_s: float = 0.0

    def hear(self, beat: Heartbeat, elapsed_s: float) -> None:
        self.silent_s = self.silent_s + elapsed_s if beat.beats == self.beat.beats else 0.0
        self.idle_s = self.idle_s + elapsed_s if beat.changes == self.beat.changes else 0.0
        self.beat = beat


class Listener:
    """Hears the workers of one attempt.

    Args:
        hang_s: `train.hang_s`.
        now_s: Seconds on any clock that never goes back.
    """

    def __init__(self, hang_s: float, now_s: float) -> None:
        self._hang_s, self._looked_s = hang_s, now_s
        self._heard: dict[int, _Heard] = {}

    def hear(self, beats: Sequence[Heartbeat], now_s: float) -> list[Hang]:
        """The workers that are to blame if the group has come to a halt; none while it has not."""
        elapsed_s, self._looked_s = min(now_s - self._looked_s, LOOK_COUNTS_S), now_s
        known, self._heard = self._heard, {}
        for beat in beats:
            heard = self._heard[beat.rank] = known.get(beat.rank) or _Heard(beat)
            heard.hear(beat, elapsed_s)
        hung = [hang for heard in self._heard.values() if (hang := self._hang(heard))]
        return hung or self._deadlock()

    def _hang(self, heard: _Heard) -> Hang | None:
        beat = heard.beat
        if heard.silent_s > self._hang_s * (PATIENCE if beat.doing == START else 1):
            return Hang(beat, heard.silent_s, alive=False)
        timed = beat.doing in TIMED and beat.usual_step_s > 0
        limit_s = self._limit_s(beat) * (1 if timed else PATIENCE)
        return Hang(beat, heard.idle_s, alive=True) if beat.doing != EXCHANGE and heard.idle_s > limit_s else None

    def _deadlock(self) -> list[Hang]:
        everyone = list(self._heard.values())
        if all(heard.beat.doing == EXCHANGE and heard.idle_s > self._limit_s(heard.beat) for heard in everyone):
            return [Hang(heard.beat, heard.idle_s, alive=True) for heard in everyone]
        return []

    def _limit_s(self, beat: Heartbeat) -> float:
        return max(self._hang_s, PATIENCE * beat.usual_step_s)


def place_of(stacks: str, frame: str) -> str:
    """`FILE:LINE in FUNCTION`, where the thread stands that has called `frame`; empty when the stacks do not tell.

    Args:
        stacks: As `faulthandler` writes them.
        frame: Name of a function of the thread that is meant.
    """
    for thread in stacks.split("\n\n"):
        calls = [line.strip() for line in thread.splitlines() if line.startswith("  File ")]
        if any(call.endswith(f" in {frame}") for call in calls):
            file, _, rest = calls[0].removeprefix('File "').partition('", line ')
            return f"{file}:{rest}"
    return ""
