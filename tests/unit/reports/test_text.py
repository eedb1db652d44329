"""The short form on the terminal."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.record.folder import RunFolder
from orchestrator.record.journal import Journal
from orchestrator.reports.fold import fold
from orchestrator.reports.text import report_text

MakeRun = Callable[..., RunFolder]

FINISHED = """\
fashion-mnist-7f3a  done, 2 min 40 s at work
  prepare   done     14.1 s  69,988 images, 12 rejected
  train     done     2 min 20 s  epoch 5 of 5, best validation accuracy 88.55% (epoch 5)
  evaluate  done     4.5 s
  result    test accuracy 90.09% on 10,000 images (loss 0.274, macro F1 0.905)
  limit     Computing took 82% of the time in epochs; a GPU, more CPUs, a smaller model.name or a smaller data.image.size make it faster."""


def test_a_finished_run_in_a_few_lines(make_run: MakeRun) -> None:
    """Stages, result and limit, one line each."""
    assert report_text(fold(make_run())) == FINISHED


def test_a_failed_run_says_why_and_what_next(make_run: MakeRun) -> None:
    """The last two lines are the error and the next step."""
    lines = report_text(fold(make_run(until="train", ending="RunFailed", epochs=1))).splitlines()
    assert lines[-2:] == ["  error     loss is not finite at step 113", "  next      lower train.lr"]


def test_file_names_cannot_steer_the_terminal(make_run: MakeRun) -> None:
    """Escape sequences and line breaks inside an error are shown as harmless characters."""
    folder = make_run(until="prepare", ending=None)
    Journal(folder.events, "run", "run").record("RunFailed", error="cannot read \x1b[2J\r\nbad\u202e.jpg", next_step="")
    last = report_text(fold(folder)).splitlines()[-1]
    assert last.startswith("  error     cannot read ")
    assert not set(last) & {"\x1b", "\r", "\u202e"}
