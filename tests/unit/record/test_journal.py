"""The journal: what was recorded is read back, in order, whoever was killed."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import StorageError
from orchestrator.record.journal import EventFollower, Journal, read_events


def names(folder: Path) -> list[str]:
    return [event["event"] for event in read_events(folder)]


@contextmanager
def files_limited_to(size_bytes: int) -> Iterator[None]:
    """Files of this process stop growing, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


def test_an_event_is_one_line_with_time_name_and_stage(tmp_path: Path) -> None:
    """The format that other programs rely on."""
    Journal(tmp_path / "events", "train-0", "train").record("CheckpointSaved", name="step-00000040", size_bytes=3)
    (line,) = (tmp_path / "events" / "train-0.jsonl").read_text().splitlines()
    event = json.loads(line)
    assert isinstance(event.pop("time"), float)
    assert event == {"event": "CheckpointSaved", "stage": "train", "name": "step-00000040", "size_bytes": 3}


def test_events_of_all_writers_come_in_the_order_of_time(tmp_path: Path) -> None:
    """Three writers taking turns are read in the order in which they wrote."""
    writers = [Journal(tmp_path, name, "train") for name in ("c", "a", "b")]
    for turn in range(30):
        writers[turn % 3].record(f"Turn{turn}")
    assert names(tmp_path) == [f"Turn{turn}" for turn in range(30)]


def test_no_folder_is_no_events(tmp_path: Path) -> None:
    """A run that has not begun has none."""
    assert read_events(tmp_path / "missing") == []
    assert EventFollower(tmp_path / "missing").new_events() == []


@settings(max_examples=25)
@given(cut=st.integers(1, 200))
def test_a_line_cut_anywhere_costs_only_itself(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    """A writer killed inside a line loses that line; the next writer of the same file starts a line of its own."""
    folder = tmp_path_factory.mktemp("events")
    journal = Journal(folder, "train-0", "train")
    journal.record("First")
    whole = journal.path.stat().st_size
    journal.record("Second", text="ü" * 20)
    os.truncate(journal.path, min(whole + cut, journal.path.stat().st_size - 2))
    assert names(folder) == ["First"]
    journal.record("Third")
    assert names(folder) == ["First", "Third"]


@pytest.mark.parametrize(
    "line",
    [b"[1]", b"7", b'{"time": 1.0}', b'{"event": "A"}', b'{"time": "soon", "event": "A"}', b'{"time": 1, "event": 2}', b"\xff\xfe", b""],
)
def test_what_is_no_event_is_left_out(tmp_path: Path, line: bytes) -> None:
    """Other lines in the file neither appear nor stop the reader."""
    (tmp_path / "x.jsonl").write_bytes(line + b'\n{"time": 1, "event": "Good"}\n')
    assert names(tmp_path) == ["Good"]
    assert [event["event"] for event in EventFollower(tmp_path, from_start=True).new_events()] == ["Good"]


def test_a_number_that_is_not_finite_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    """NaN is no JSON; the caller learns it at once."""
    journal = Journal(tmp_path, "train-0", "train")
    with pytest.raises(ValueError, match="not JSON compliant"):
        journal.record("Progress", loss=float("nan"))
    assert not journal.path.exists()


def test_full_storage_is_an_error_with_a_next_step(tmp_path: Path) -> None:
    """A line that fits only in part is an error, not a silent loss, and the journal goes on when there is space again."""
    journal = Journal(tmp_path, "run", "run")
    journal.record("First")
    with files_limited_to(journal.path.stat().st_size + 10), pytest.raises(StorageError) as caught:
        journal.record("Second")
    assert "run.jsonl" in caught.value.message
    assert caught.value.next_step
    journal.record("Third")
    assert names(tmp_path) == ["First", "Third"]


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    """A file stands where the folder should be."""
    (tmp_path / "events").write_text("")
    with pytest.raises(StorageError, match=r"events"):
        Journal(tmp_path / "events", "run", "run").record("RunStarted")


def test_a_killed_process_leaves_all_it_recorded(tmp_path: Path) -> None:
    """What was recorded before SIGKILL is on disk, whole."""
    program = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom orchestrator.record.journal import Journal\n"
        "journal = Journal(Path(sys.argv[1]), 'w', 'train')\n"
        "for step in range(50):\n    journal.record('Progress', step=step)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert [event["step"] for event in read_events(tmp_path)] == list(range(50))


def test_a_follower_sees_each_event_once(tmp_path: Path) -> None:
    """Also those of writers that begin after the follower."""
    follower = EventFollower(tmp_path)
    Journal(tmp_path, "a", "train").record("One")
    assert [event["event"] for event in follower.new_events()] == ["One"]
    Journal(tmp_path, "b", "train").record("Two")
    Journal(tmp_path, "a", "train").record("Three")
    assert [event["event"] for event in follower.new_events()] == ["Two", "Three"]
    assert follower.new_events() == []


def test_a_follower_begins_at_the_end_unless_told_otherwise(tmp_path: Path) -> None:
    """Whoever continues a run is not shown its past."""
    journal = Journal(tmp_path, "a", "train")
    journal.record("Past")
    late, early = EventFollower(tmp_path), EventFollower(tmp_path, from_start=True)
    journal.record("Now")
    assert [event["event"] for event in late.new_events()] == ["Now"]
    assert [event["event"] for event in early.new_events()] == ["Past", "Now"]


def test_a_follower_waits_for_the_end_of_a_line(tmp_path: Path) -> None:
    """A line that is still being written comes whole with a later call."""
    path, follower = tmp_path / "a.jsonl", EventFollower(tmp_path)
    path.write_bytes(b'{"time": 1, "event": "Sl')
    assert follower.new_events() == []
    with path.open("ab") as file:
        file.write(b'ow"}\n')
    assert [event["event"] for event in follower.new_events()] == ["Slow"]
