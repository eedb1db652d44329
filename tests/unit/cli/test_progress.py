"""What a person and a log file see while a run is at work."""

from __future__ import annotations

import io
import os
import pty
import re
import select
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.progress import ProgressView, following
from orchestrator.record.journal import Journal

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def event(time: float, stage: str, kind: str, /, **fields: Any) -> dict[str, Any]:
    return {"time": time, "stage": stage, "event": kind, **fields}


def step(time: float, number: int, epoch: int = 0) -> dict[str, Any]:
    fields = {"steps_per_epoch": 40, "total_steps": 80, "global_step": number, "loss": 0.4321, "lr": 0.1}
    return event(time, "train", "Progress", epoch=epoch, step=number, images_per_s=2_098.4, wait_share=0.034, eta_s=63.0, **fields)


def unit(time: float, done: int) -> dict[str, Any]:
    return event(
        time,
        "prepare",
        "UnitPrepared",
        done=done,
        units=9,
        images=done * 1000,
        total_images=9000,
        rejects=0,
        images_per_s=5210.0,
        eta_s=2.0,
    )


EPOCH = {"train_loss": 0.41, "train_accuracy": 0.852, "validation_accuracy": 0.86, "images_per_s": 2098.0, "seconds": 26.1}
RUN = [
    event(0.0, "run", "RunStarted", run="x", job="x", version="0.1.0", command="run"),
    event(0.1, "prepare", "StageStarted"),
    event(0.2, "prepare", "UnitsTakenOver", units=2, images=1200, earlier="f" * 16),
    *[unit(1.0 + place, place + 1) for place in range(8)],
    event(9.8, "prepare", "DataPrepared", rows=8990, rejects=10, splits={}, skipped={}, seconds=9.0, images_per_s=999.0, reused=False),
    event(9.9, "prepare", "StageFinished", seconds=9.8),
    event(10.0, "train", "StageStarted"),
    event(10.1, "train", "AttemptStarted", attempt=1, workers=2),
    *[step(11.0 + place, place) for place in range(8)],
    event(20.0, "train", "EpochFinished", epoch=0, **EPOCH),
    event(20.1, "train", "CheckpointRejected", name="step-00000040", reason="hash differs"),
    event(20.2, "train", "GroupPreempted", rank=1, node="spot-7", by="drain", deadline=1790000000.0),
    event(25.0, "train", "NodesRanShort", missing="0 CPUs are left", wait_s=600.0),
    event(25.9, "train", "GroupResized", from_workers=2, to_workers=1, why="the cluster has 1 node"),
    event(26.0, "train", "AttemptStarted", attempt=2, workers=1),
    step(31.5, 3, epoch=1),
    event(40.0, "train", "TrainingFinished", epochs=2, best_epoch=1, best_validation_accuracy=0.87, seconds=30.0),
    event(40.1, "train", "StageFinished", seconds=30.1),
    event(40.2, "evaluate", "StageStarted"),
    event(46.0, "evaluate", "BatchesPredicted", rows=4000, total_rows=10_000, images_per_s=3000.0),
    event(48.0, "evaluate", "ModelEvaluated", split="test", rows=10_000, accuracy=0.9123, loss=0.25, seconds=7.0),
    event(48.1, "evaluate", "StageFinished", seconds=7.9),
    event(48.2, "run", "RunFinished", seconds=48.2),
]
PLAIN = """\
prepare: started
prepare: 1,200 images taken over from earlier data
prepare: 6,000/9,000 images, 5,210 images/s, 2.0 s left
prepare: done in 9.8 s, 8,990 images, 10 rejected
train: started
train: epoch 1/2, step 4/40, loss 0.432, 2,098 images/s, waiting for data 3%, 1 min 03 s left
train: epoch 1/2, loss 0.410, accuracy 85.2%, validation accuracy 86.0%, 2,098 images/s, 26.1 s
train: checkpoint step-00000040 not used, hash differs
train: worker 1 on spot-7 has to go (drain), saving
train: 0 CPUs are left, waiting up to 10 min 00 s
train: from 2 to 1 worker, the cluster has 1 node
train: attempt 2 with 1 worker
train: epoch 2/2, step 3/40, loss 0.432, validation accuracy 86.0%, 2,098 images/s, waiting for data 3%, 1 min 03 s left
train: done in 30.1 s, best validation accuracy 87.0%
evaluate: started
evaluate: 4,000/10,000 images, 3,000 images/s
evaluate: done in 7.9 s, test accuracy 91.2%, 10,000 images
"""


def shown(events: list[dict[str, Any]], *, interactive: bool = False) -> str:
    stream = io.StringIO()
    view = ProgressView(stream, interactive=interactive)
    for one in events:
        view.show(one)
    view.close()
    return stream.getvalue()


def test_a_log_file_gets_few_plain_lines() -> None:
    """One line for each stage, epoch and fault, others at most every 5 s of event time, and no ANSI codes."""
    assert shown(RUN) == PLAIN


@pytest.mark.parametrize("variable", ["FORCE_COLOR", "CLICOLOR_FORCE"])
def test_a_log_file_stays_plain_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """Colours in a file help nobody."""
    monkeypatch.setenv(variable, "1")
    assert "\x1b" not in shown(RUN)


def test_synchronising_is_shown_where_it_is_worth_a_word() -> None:
    """Twelve per cent are told after the waiting, four are not."""
    lines = [shown([step(1.0, 1) | {"sync_share": share}]) for share in (0.12, 0.04)]
    assert "waiting for data 3%, synchronising 12%, 1 min 03 s left" in lines[0]
    assert "synchronising" not in lines[1]


def test_a_terminal_keeps_the_lasting_lines_and_shows_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every event changes the live line; the lines of stages and epochs stay above it."""
    monkeypatch.setenv("COLUMNS", "160")
    text = ANSI.sub("", shown(RUN, interactive=True))
    for line in PLAIN.splitlines():
        assert line in text
    assert "step 7/40" in text


def test_the_cursor_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The live line hides the cursor and closing shows it again."""
    monkeypatch.setenv("TERM", "xterm-256color")
    text = shown([step(0.0, 1)], interactive=True)
    assert text.rfind("\x1b[?25l") < text.rfind("\x1b[?25h")


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    """With NO_COLOR there is a live line and no colour."""
    monkeypatch.setenv("NO_COLOR", "1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", shown(RUN, interactive=True))
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "xterm-256color")
    assert re.search(r"\x1b\[[0-9;]*3[0-9]m", shown(RUN, interactive=True))


def test_the_live_line_is_cut_to_the_width_of_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that wraps could not be overwritten."""
    monkeypatch.setenv("COLUMNS", "40")
    lines = re.split(r"[\r\n]+", ANSI.sub("", shown([step(0.0, 1)], interactive=True)))
    assert max(len(line) for line in lines) <= 40


def test_names_in_events_cannot_steer_the_terminal() -> None:
    """Escape sequences inside an event arrive as harmless characters."""
    text = shown([event(0.0, "train", "CheckpointRejected", name="\x1b[2J", reason="a\nb\x07")])
    assert text == "train: checkpoint \ufffd[2J not used, a b\ufffd\n"


def test_faults_of_workers_are_lines_that_stay() -> None:
    """Which rank was silent, for how long and where; and which step was left out, and why."""
    hung = {"rank": 1, "seconds": 61.2, "doing": "compute", "at": "/home/me/net.py:12 in forward", "stacks": "workers-1/rank-1.stacks"}
    skipped = {"epoch": 1, "step": 12, "global_step": 52, "reason": "the loss is not finite on rank 1"}
    assert shown([event(0.0, "train", "WorkerHung", **hung), event(1.0, "train", "StepSkipped", **skipped)]) == (
        "train: rank 1 hung for 1 min 01 s in compute, /home/me/net.py:12 in forward; stacks in attempts/workers-1/rank-1.stacks\n"
        "train: step 12 of epoch 2 left out, the loss is not finite on rank 1\n"
    )


def test_a_model_that_is_gone_is_a_line_that_stays() -> None:
    """Which epoch's, and which ones count from now on."""
    gone = event(0.0, "train", "BestModelLost", epoch=0, counted_from=2)
    assert shown([gone]) == "train: the model of epoch 1 is gone; the best one from epoch 3 on is kept\n"


def test_nobody_reading_does_not_stop_the_run() -> None:
    """A closed pipe makes the view silent."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w", buffering=1) as stream:
        view = ProgressView(stream, interactive=False)
        for one in RUN:
            view.show(one)
        view.close()
        os.dup2(os.open(os.devnull, os.O_WRONLY), write)


def test_following_shows_all_events_of_the_context_to_the_last(tmp_path: Path) -> None:
    """Events recorded just before the end are shown, those of earlier starts are not."""
    journal = Journal(tmp_path / "events", "train-driver", "train")
    journal.record("StageSkipped", reason="an earlier start")
    stream = io.StringIO()
    with following(tmp_path / "events", ProgressView(stream, interactive=False)):
        journal.record("StageStarted")
        journal.record("StageFinished", seconds=1.0)
    assert stream.getvalue() == "train: started\ntrain: done in 1.0 s\n"


def fail_after_one_event(events: Path, stream: io.StringIO) -> None:
    with following(events, ProgressView(stream, interactive=False)):
        Journal(events, "train-driver", "train").record("StageStarted")
        raise RuntimeError("lost")


def test_following_begins_before_the_folder_exists_and_survives_an_error(tmp_path: Path) -> None:
    """A new run has no events yet; the error of the run is raised after what happened is shown."""
    stream = io.StringIO()
    with pytest.raises(RuntimeError, match="lost"):
        fail_after_one_event(tmp_path / "run" / "events", stream)
    assert stream.getvalue() == "train: started\n"


def test_a_real_terminal_ends_with_the_lasting_lines_only() -> None:
    """On a pseudo-terminal the live line is erased at the end."""
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as stream:
        view = ProgressView(stream, interactive=True)
        view.show(event(0.0, "train", "StageStarted"))
        view.show(step(1.0, 7))
        view.close()
        written = read_available(master)
    os.close(master)
    assert "step 7/40" in written
    assert written.rstrip().endswith("\x1b[2K")


def read_available(descriptor: int) -> str:
    content = b""
    while select.select([descriptor], [], [], 0)[0]:
        content += os.read(descriptor, 65536)
    return content.decode()


def test_epochs_are_counted_of_all_however_short_they_are() -> None:
    """Also where none lasts until progress is told for the first time."""
    begun = event(10.0, "train", "TrainingStarted", epochs=3, workers=2, resumed_from_step=0)
    lines = shown([begun, *(event(10.1 + epoch, "train", "EpochFinished", epoch=epoch, **EPOCH) for epoch in range(3))]).splitlines()
    assert [line.partition(",")[0] for line in lines] == ["train: epoch 1/3", "train: epoch 2/3", "train: epoch 3/3"]
