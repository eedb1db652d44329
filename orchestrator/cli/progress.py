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
from orchestrator.reports.fields import epoch_number, number, text, visible, whole
from orchestrator.reports.study import parameters_of
from orchestrator.units import format_count, format_duration

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
        self._told = _Told()
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


class _Told:
    """What earlier events told that later lines repeat."""

    def __init__(self) -> None:
        self.validation_accuracy: float | None = None
        self.epochs: int | None = None
        self.results: dict[str, str] = {}

    def learn(self, event: Event) -> None:
        kind = event["event"]
        if kind == "EpochFinished":
            self.validation_accuracy = number(event, "validation_accuracy")
        elif kind == "Progress":
            total, per_epoch = whole(event, "total_steps"), whole(event, "steps_per_epoch")
            self.epochs = total // per_epoch if total and per_epoch else self.epochs
        elif result := _result(event):
            self.results[text(event, "stage")] = result


def _result(event: Event) -> str:
    """What came of a stage, for the line that says that it is done."""
    accuracy = number(event, "accuracy") if event["event"] == "ModelEvaluated" else number(event, "best_validation_accuracy")
    if event["event"] == "DataPrepared":
        reused = "already prepared" if event.get("reused") else ""
        return _joined(reused, format_count(whole(event, "rows") or 0, "image"), _rejects(event))
    if event["event"] == "TrainingFinished":
        return _joined(_percent("best validation accuracy", accuracy))
    if event["event"] == "StudyFinished":
        return f"best trial {whole(event, 'best')}: {_parameters(event)}"
    if event["event"] == "ModelEvaluated" and text(event, "stage") != "tune":
        return _joined(_percent(f"{text(event, 'split')} accuracy", accuracy), f"{whole(event, 'rows') or 0:,} images")
    return ""


def lasting_line(event: Event, told: _Told) -> str:
    """The line of an event worth keeping; empty for the others."""
    stage, kind = visible(text(event, "stage")), event["event"]
    if kind == "StageStarted":
        return f"{stage}: started"
    if kind == "StageSkipped":
        return f"{stage}: skipped, {visible(text(event, 'reason'))}"
    if kind == "StageFinished":
        return f"{stage}: " + _joined(f"done in {format_duration(number(event, 'seconds') or 0.0)}", told.results.get(stage, ""))
    if kind == "EpochFinished":
        return f"{stage}: {_epoch_result(event, told)}"
    if kind == "TrialStarted":
        return f"{stage}: trial {whole(event, 'number')} of {whole(event, 'trials')} started, {_parameters(event)}"
    return _fault(event, stage)


def _fault(event: Event, stage: str) -> str:
    attempt = whole(event, "attempt") or 1
    if event["event"] == "CheckpointRejected":
        return f"{stage}: checkpoint {visible(text(event, 'name'))} not used, {visible(text(event, 'reason'))}"
    if event["event"] == "AttemptFailed":
        return f"{stage}: attempt {attempt} failed, {visible(text(event, 'error'))}"
    if event["event"] == "AttemptStarted" and attempt > 1:
        return f"{stage}: attempt {attempt} with {format_count(whole(event, 'workers') or 0, 'worker')}"
    return ""


def _epoch_result(event: Event, told: _Told) -> str:
    return _joined(
        _epoch(event, told),
        _decimal("loss", number(event, "train_loss")),
        _percent("accuracy", number(event, "train_accuracy")),
        _percent("validation accuracy", number(event, "validation_accuracy")),
        _speed(event),
        format_duration(number(event, "seconds") or 0.0),
    )


def passing_line(event: Event, told: _Told) -> str:
    """Where a stage stands; empty for events that do not say it."""
    facts = _passing_facts(event, told)
    return f"{visible(text(event, 'stage'))}: {facts}" if facts else ""


def _passing_facts(event: Event, told: _Told) -> str:
    kind = event["event"]
    if kind == "UnitPrepared":
        return _joined(_share_done(event, "images", "total_images", "images"), _rejects(event), _speed(event), _left(event))
    if kind == "AttemptStarted":
        return f"starting {format_count(whole(event, 'workers') or 0, 'worker')}"
    if kind == "Progress":
        return _joined(
            _epoch(event, told),
            f"step {whole(event, 'step')}/{whole(event, 'steps_per_epoch')}",
            _decimal("loss", number(event, "loss")),
            _percent("validation accuracy", told.validation_accuracy),
            _speed(event),
            _percent("waiting for data", number(event, "wait_share"), digits=0),
            _left(event),
        )
    if kind == "TrialReported":
        value = _decimal(f"validation {visible(text(event, 'metric'))}", number(event, "value"))
        return _joined(f"trial {whole(event, 'number')}", f"epoch {whole(event, 'epoch')}", value)
    if kind == "BatchesPredicted":
        return _joined(_share_done(event, "rows", "total_rows", "images"), _speed(event))
    return ""


def _parameters(event: Event) -> str:
    return ", ".join(f"{visible(key)}={visible(value)}" for key, value in parameters_of(event).items())


def _joined(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


def _epoch(event: Event, told: _Told) -> str:
    epoch = epoch_number(event)
    return f"epoch {epoch}/{told.epochs}" if told.epochs else f"epoch {epoch}"


def _share_done(event: Event, done: str, total: str, noun: str) -> str:
    return f"{whole(event, done) or 0:,}/{whole(event, total) or 0:,} {noun}"


def _rejects(event: Event) -> str:
    rejects = whole(event, "rejects")
    return f"{rejects:,} rejected" if rejects else ""


def _speed(event: Event) -> str:
    speed = number(event, "images_per_s")
    return "" if speed is None else f"{speed:,.0f} images/s"


def _left(event: Event) -> str:
    eta_s = number(event, "eta_s")
    return "" if eta_s is None else f"{format_duration(eta_s)} left"


def _decimal(name: str, value: float | None) -> str:
    return "" if value is None else f"{name} {value:.3f}"


def _percent(name: str, share: float | None, digits: int = 1) -> str:
    return "" if share is None else f"{name} {share:.{digits}%}"


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
