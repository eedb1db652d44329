"""The journal of a run: events in the past tense, one JSON object a line, one file per writer, only ever appended to."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orchestrator.durable import storage_error

Event = dict[str, Any]
"""`{"time": seconds since 1970, "event": "CheckpointSaved", "stage": "train", ...}`."""


class Journal:
    """Appends events of one writer to `events/<writer>.jsonl`.

    Times are exact to the microsecond, because they alone order the events of different writers.
    A line goes out in one `write` call, so a killed writer leaves at most one torn last line, which readers skip.

    Args:
        folder: The `events/` folder of the run.
        writer: Who writes; unique among the processes that write at the same time.
        stage: The stage named in every event.
    """

    def __init__(self, folder: Path, writer: str, stage: str) -> None:
        self.path = folder / f"{writer}.jsonl"
        self.stage = stage

    def record(self, event: str, **fields: Any) -> None:
        """Append one event.

        Raises:
            StorageError: The storage is full or does not take the line.
            ValueError: A field is NaN or infinite.
        """
        line = json.dumps({"time": round(time.time(), 6), "event": event, "stage": self.stage, **fields}, allow_nan=False)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                _write_whole(descriptor, _line_start(descriptor) + line.encode() + b"\n")
            finally:
                os.close(descriptor)
        except OSError as error:
            raise storage_error(error, self.path) from error


def _line_start(descriptor: int) -> bytes:
    """A line break when a killed writer left its last line unfinished."""
    size = os.fstat(descriptor).st_size
    return b"\n" if size and os.pread(descriptor, 1, size - 1) != b"\n" else b""


def _write_whole(descriptor: int, line: bytes) -> None:
    """Storage that is all but full takes part of a line and says so only by the count."""
    if os.write(descriptor, line) < len(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read_events(folder: Path) -> list[Event]:
    """All events of a run, ordered by time; lines torn by a kill are left out."""
    events: list[Event] = []
    for path in sorted(folder.glob("*.jsonl")):
        events.extend(_parse_lines(path.read_bytes().split(b"\n")))
    return sorted(events, key=lambda event: float(event["time"]))


class EventFollower:
    """Reads the events that were appended since the last call, for whoever watches a run."""

    def __init__(self, folder: Path, *, from_start: bool = False) -> None:
        self.folder = folder
        self._offsets: dict[Path, int] = {}
        if not from_start:
            self._offsets = {path: path.stat().st_size for path in folder.glob("*.jsonl")}

    def new_events(self) -> list[Event]:
        """Complete lines only; what is still being written comes with a later call."""
        events: list[Event] = []
        for path in sorted(self.folder.glob("*.jsonl")):
            with path.open("rb") as file:
                file.seek(self._offsets.get(path, 0))
                content = file.read()
            whole, separator, _ = content.rpartition(b"\n")
            self._offsets[path] = self._offsets.get(path, 0) + len(whole) + len(separator)
            events.extend(_parse_lines(whole.split(b"\n")))
        return sorted(events, key=lambda event: float(event["time"]))


def _parse_lines(lines: list[bytes]) -> Iterator[Event]:
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and isinstance(event.get("time"), int | float) and isinstance(event.get("event"), str):
            yield event
