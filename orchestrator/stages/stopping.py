"""The user's wish to stop, as the stages see it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from threading import Event


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
