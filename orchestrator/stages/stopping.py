"""Wishes that a group of workers ends: the user's, the driver's, and the cluster's; as the driver and as a worker see them."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from orchestrator.training.work import Record, Wish


@dataclass
class StopRequest:
    """Finish what is being done, save it, stop. Workers in other processes see the wish as a file in the run folder."""

    file: Path
    _asked: Event = field(default_factory=Event)

    @property
    def asked(self) -> bool:
        return self._asked.is_set()

    def ask(self) -> None:
        self._asked.set()
        self.file.touch()

    def forget(self) -> None:
        """Drop what was asked of an earlier start of the run."""
        self._asked.clear()
        self.file.unlink(missing_ok=True)


@dataclass(frozen=True)
class StopFile:
    """The same wish, seen from a worker."""

    file: Path

    def stop_requested(self) -> bool:
        return self.file.exists()


@dataclass(frozen=True)
class Notice:
    """Word that this process, or its machine, is about to go."""

    source: str
    """`SIGTERM`, or `drain` where the cluster takes the node away."""
    deadline: float
    """Seconds since 1970; 0 where nobody says."""


class Notices:
    """What this process has heard of its own end."""

    def __init__(self) -> None:
        self.heeded = False
        """Whether somebody is there who saves a checkpoint when there is a notice."""
        self.heard: Notice | None = None


NOTICES = Notices()
"""A process has one end."""


@dataclass(frozen=True)
class WorkerControl:
    """What one worker knows to be wanted; rank 0 alone looks for files."""

    stop: Path
    regroup: Path
    rank: int
    record: Record
    """Of this worker's own journal."""

    def wish(self) -> Wish:
        if self.rank == 0 and self.stop.exists():
            return Wish.STOP
        if NOTICES.heard is not None:
            notice = NOTICES.heard
            self.record("GroupPreempted", rank=self.rank, node=platform.node(), by=notice.source, deadline=notice.deadline or None)
            return Wish.LEAVE
        if self.rank == 0 and self.regroup.exists():
            return Wish.REGROUP
        return Wish.GO_ON
