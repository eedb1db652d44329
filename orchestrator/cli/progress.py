"""Progress of a run on the terminal: one live line for people, a plain line now and then for log files."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TextIO

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from orchestrator.record.journal import Event, EventFollower
from orchestrator.reports.lines import Told, lasting_line, passing_line

POLL_EVERY_S = 0.2
PLAIN_LINE_EVERY_S = 5.0


class ProgressView:
    """Shows the events of a run as they come.

    How a run ends is not shown: the command says it. When nobody can read any more (a closed pipe or terminal) the view falls
    silent and the run goes on.

    Args:
        stream: Where to, usually stderr.
        interactive: A terminal: one live line besides the lasting ones. Otherwise plain lines without ANSI codes,
            at most one in 5 s of event time besides those for stages, epochs and faults.
    """

    def __init__(self, stream: TextIO, *, interactive: bool) -> None:
        self._stream = stream
        self._lines: _Lines = _LiveLine(stream) if interactive else _PlainLines(stream)
        self._told = Told()
        self._readers_gone = False

    def show(self, event: Event) -> None:
        """Show one event; events that say nothing to people are passed over."""
        self._told.learn(event)
        lasting, passing = lasting_line(event, self._told), passing_line(event, self._told)
        if lasting:
            self._write(lambda: self._lines.keep(lasting, float(event["time"])))
        elif passing:
            self._write(lambda: self._lines.update(passing, float(event["time"])))

    def close(self) -> None:
        """Leave the terminal as it was found; lasting lines stay."""
        self._write(self._lines.close)

    def _write(self, write: Callable[[], None]) -> None:
        if self._readers_gone or self._stream.closed:
            return
        try:
            write()
        except OSError:
            self._readers_gone = True


@contextmanager
def following(events: Path, view: ProgressView) -> Iterator[None]:
    """Show the events that are appended to `events/` while the context lasts, to the last one, then close the view."""
    follower, stop = EventFollower(events), threading.Event()
    thread = threading.Thread(target=follow, args=(follower, view, stop), name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        view.close()


def follow(follower: EventFollower, view: ProgressView, stop: threading.Event) -> None:
    """Show events until `stop` is set, and then those that are left."""
    while not stop.wait(POLL_EVERY_S):
        _show_new(follower, view)
    _show_new(follower, view)


def _show_new(follower: EventFollower, view: ProgressView) -> None:
    for event in follower.new_events():
        view.show(event)


class _Lines(Protocol):
    """Two ways to write lines."""

    def keep(self, line: str, time_s: float) -> None:
        """Write a line that stays."""

    def update(self, line: str, time_s: float) -> None:
        """Say where things stand now."""

    def close(self) -> None:
        """Give the stream back."""


class _PlainLines:
    """Whole lines only, for log files and pipes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._written_s: float | None = None

    def keep(self, line: str, time_s: float) -> None:
        self._written_s = time_s
        self._stream.write(f"{line}\n")
        self._stream.flush()

    def update(self, line: str, time_s: float) -> None:
        if self._written_s is None or time_s - self._written_s >= PLAIN_LINE_EVERY_S:
            self.keep(line, time_s)

    def close(self) -> None:
        self._stream.flush()


class _LiveLine:
    """One line that changes, below the lines that stay; rich respects NO_COLOR and COLUMNS."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream, force_terminal=True, highlight=False)
        self._redirect = stream is sys.stderr
        self._live: Live | None = None

    def keep(self, line: str, time_s: float) -> None:  # noqa: ARG002 -- the same for both ways
        self._console.print(_styled(line), soft_wrap=True)

    def update(self, line: str, time_s: float) -> None:  # noqa: ARG002
        if self._live is None:
            self._live = Live(
                console=self._console, transient=True, refresh_per_second=8, redirect_stdout=False, redirect_stderr=self._redirect
            )
            self._live.start()
        self._live.update(Spinner("dots", _styled(line)), refresh=True)

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def _styled(line: str) -> Text:
    stage, colon, rest = line.partition(": ")
    return Text.assemble((stage, "bold cyan"), (colon, "dim"), rest, no_wrap=True, overflow="ellipsis")
