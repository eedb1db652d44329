"""Watches a worker group from the driver; one that has come to a halt is ended, after its stacks were saved."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import ray
from ray.exceptions import RayError

from orchestrator.record.journal import Journal
from orchestrator.stages.cluster import ANSWER_S, on_node
from orchestrator.stages.heartbeat import (
    STACKS_SIGNAL,
    Hang,
    Heartbeat,
    Listener,
    beat_seconds,
    birth_of,
    place_of,
    read_heartbeats,
    stacks_file,
)

STACKS_S = 3.0
"""A process that can show its stacks does so within this time."""


class Watchdog:
    """Of one attempt.

    Args:
        folder: Of the heartbeats.
        hang_s: `train.hang_s`.
        frame: The function of ours that runs in the thread that works.
        journal: Gets `WorkerHung`.
    """

    def __init__(self, folder: Path, hang_s: float, frame: str, journal: Journal) -> None:
        self.folder, self._frame, self._journal = folder, frame, journal
        self._every_s, self._looked_s = beat_seconds(hang_s), time.monotonic()
        self._listener = Listener(hang_s, self._looked_s)
        self.found = ""
        """Why the group was ended; empty while it was not."""

    def look(self) -> None:
        """Called again and again; ends the group when a worker is hung, upon which Ray Train tells that processes were lost."""
        now_s = time.monotonic()
        if self.found or now_s - self._looked_s < self._every_s:
            return
        self._looked_s = now_s
        beats = read_heartbeats(self.folder)
        if hangs := self._listener.hear(beats, now_s):
            self._end(beats, hangs)

    def _end(self, beats: Sequence[Heartbeat], hangs: Sequence[Hang]) -> None:
        folder = self.folder
        for_each_node(beats, lambda those: save_stacks(folder, those))
        self.found = "; ".join(str(hang) for hang in hangs)
        for hang in hangs:
            path, beat = stacks_file(self.folder, hang.beat.rank), hang.beat
            self._journal.record(
                "WorkerHung",
                rank=beat.rank,
                seconds=round(hang.seconds, 1),
                doing=beat.doing,
                epoch=beat.epoch,
                step=beat.step + 1,
                alive=hang.alive,
                at=place_of(path.read_text(), self._frame) if path.is_file() else "",
                stacks=f"{self.folder.name}/{path.name}",
            )
        for_each_node(beats, kill)


def for_each_node(beats: Sequence[Heartbeat], act: Callable[[Sequence[Heartbeat]], None]) -> None:
    """Do something beside the processes of the workers. Of a node that does not answer Ray finds out itself."""
    nodes = {beat.node for beat in beats}
    tasks = [on_node(node, act).remote([beat for beat in beats if beat.node == node]) for node in nodes]
    for task in tasks:
        with suppress(RayError):
            ray.get(task, timeout=ANSWER_S)


def save_stacks(folder: Path, beats: Sequence[Heartbeat]) -> None:
    """Let processes of this machine write down their stacks; what cannot, because it is stopped, is said to be."""
    for beat in beats:
        _send(beat, STACKS_SIGNAL)
    deadline, missing = time.monotonic() + STACKS_S, list(beats)
    while missing and time.monotonic() < deadline:
        time.sleep(0.1)
        missing = [beat for beat in missing if not _size(stacks_file(folder, beat.rank))]
    for beat in missing:
        with suppress(OSError):
            stacks_file(folder, beat.rank).write_text(f"process {beat.pid} shows no stacks; its state is {_state(beat.pid)}\n")


def kill(beats: Sequence[Heartbeat]) -> None:
    """End processes of this machine, also those that are stopped."""
    for beat in beats:
        _send(beat, signal.SIGKILL)


def _send(beat: Heartbeat, sent: signal.Signals) -> None:
    if birth_of(beat.pid) == beat.born:
        with suppress(ProcessLookupError):
            os.kill(beat.pid, sent)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _state(pid: int) -> str:
    """As `T (stopped)`."""
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next((line.split(maxsplit=1)[1] for line in lines if line.startswith("State:")), "not known")
    return "not known"
