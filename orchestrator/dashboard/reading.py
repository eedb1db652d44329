"""What the pages show, read from run folders and kept until the files change."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.record.folder import Root, RunFolder
from orchestrator.record.journal import Event, read_events
from orchestrator.record.lock import holder
from orchestrator.reports.fields import visible
from orchestrator.reports.lines import Told, lasting_line, passing_line
from orchestrator.reports.mistakes import Mistake
from orchestrator.reports.state import RunState, look
from orchestrator.reports.summary import with_mistakes

PASSING_EVERY_S = 5.0
"""Lines that only say where a stage stands are shown this far apart."""
LINES_MAX = 400
EVENTS_MAX = 200
Signature = tuple[object, ...]


@dataclass(frozen=True)
class LogLine:
    """A line of the log, and when it was said."""

    time: float
    """Seconds since 1970."""
    text: str


@dataclass(frozen=True)
class RunView:
    """One run, as its page shows it."""

    name: str
    """The run's name; of a trial also its number: `shapes-3f2a1b/trials/003`."""
    state: RunState
    mistakes: tuple[Mistake, ...]
    lines: tuple[LogLine, ...]
    """The end of the log."""
    events: tuple[Event, ...]
    """The newest events, the newest first."""
    trials: tuple[str, ...]
    version: str
    """Changes whenever something on the page does."""


class Reader:
    """Reads runs, each again only when one of its files has changed. May be used from several threads.

    Args:
        root: The folder that holds `runs/`.
    """

    def __init__(self, root: Root) -> None:
        self.root = root
        self._lock = threading.Lock()
        self._states: dict[Path, tuple[Signature, RunState]] = {}

    def states(self) -> list[RunState]:
        """All runs, the newest first."""
        states = [self.state(folder) for folder in self._folders()]
        return sorted(states, key=lambda state: state.report.started or 0.0, reverse=True)

    def find(self, run: str, trial: str = "") -> RunFolder | None:
        """A run, or one of its trials, by its name in the folder; nothing else on the disk can be named."""
        folder = next((folder for folder in self._folders() if folder.name == run), None)
        if folder is None or not trial:
            return folder
        return next((RunFolder(path) for path in _trials(folder) if path.name == trial), None)

    def state(self, folder: RunFolder) -> RunState:
        """How a run stands now."""
        signature = _signature(folder)
        with self._lock:
            known = self._states.get(folder.path)
        if known is not None and known[0] == signature:
            return known[1]
        state = look(folder)
        with self._lock:
            self._states[folder.path] = (signature, state)
        return state

    def view(self, folder: RunFolder) -> RunView:
        """Everything about a run."""
        signature = _signature(folder)
        events, state = read_events(folder.events), self.state(folder)
        report, mistakes = with_mistakes(state.report, folder)
        return RunView(
            name=folder.path.relative_to(self.root.runs).as_posix(),
            state=replace(state, report=report),
            mistakes=mistakes,
            lines=tuple(log_lines(events))[-LINES_MAX:],
            events=tuple(reversed(events[-EVENTS_MAX:])),
            trials=tuple(path.name for path in _trials(folder)),
            version=hashlib.sha256(repr(signature).encode()).hexdigest()[:16],
        )

    def version(self, folder: RunFolder) -> str:
        """The version of a run's view, without building it."""
        return hashlib.sha256(repr(_signature(folder)).encode()).hexdigest()[:16]

    def _folders(self) -> Iterator[RunFolder]:
        return (RunFolder(job.parent) for job in self.root.runs.glob("*/job.yaml"))


def log_lines(events: list[Event]) -> Iterator[LogLine]:
    """What a terminal would have shown, line by line."""
    told, last = Told(), 0.0
    for event in events:
        told.learn(event)
        now = float(event["time"])
        line = lasting_line(event, told)
        if not line and now - last >= PASSING_EVERY_S:
            line = passing_line(event, told)
        if line:
            last = now
            yield LogLine(now, line)


def event_fields(event: Event) -> str:
    """What an event says besides its name, on one line."""
    rest = {name: value for name, value in event.items() if name not in ("time", "event", "stage")}
    return visible(", ".join(f"{name} {json.dumps(value, ensure_ascii=False)}" for name, value in rest.items()))


def _trials(folder: RunFolder) -> list[Path]:
    return sorted(events.parent for events in folder.trials.glob("*/events"))


def _signature(folder: RunFolder) -> Signature:
    """Changes whenever the run does, or whoever works on it."""
    files = [*sorted(folder.events.glob("*.jsonl")), folder.plan, folder.preview, folder.metrics, folder.mistakes, *_trials(folder)]
    return (holder(folder.worked_on_as), *(_stamp(path) for path in files))


def _stamp(path: Path) -> tuple[str, int, int]:
    try:
        status = path.stat()
    except OSError:
        return str(path), 0, 0
    return str(path), status.st_size, status.st_mtime_ns
