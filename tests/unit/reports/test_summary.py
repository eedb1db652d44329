"""report.json and report.html are written whole, from any state of a run."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from orchestrator.record.folder import RunFolder
from orchestrator.record.journal import Journal
from orchestrator.reports.summary import write_report

MakeRun = Callable[..., RunFolder]


def test_the_json_report_has_what_other_programs_rely_on(make_run: MakeRun) -> None:
    """The keys of the format, with the figures of the run."""
    folder = make_run()
    write_report(folder)
    report = json.loads(folder.report_json.read_bytes())
    assert (report["run"], report["job"], report["status"]) == ("fashion-mnist-7f3a", "fashion-mnist", "done")
    assert report["stages"]["train"] == {"state": "done", "seconds": 140.2}
    assert report["metrics"]["accuracy"] == 0.9009
    assert (report["metrics"]["split"], report["metrics"]["rows"]) == ("test", 10_000)
    assert "confusion" not in report["metrics"]
    assert report["limit"].startswith("Computing")
    assert report["error"] is None


@pytest.mark.parametrize(("ending", "status"), [("RunFailed", "failed"), ("RunInterrupted", "interrupted"), (None, "running")])
def test_an_unfinished_run_has_both_reports(make_run: MakeRun, ending: str | None, status: str) -> None:
    """No metrics yet is an empty mapping, not an error."""
    folder = make_run(until="train", ending=ending, epochs=1)
    assert write_report(folder).status == status
    report = json.loads(folder.report_json.read_bytes())
    assert (report["status"], report["metrics"], report["training"]["epochs"]) == (status, {}, 1)
    assert status in folder.report_html.read_text()


def test_names_that_are_not_utf8_do_not_stop_the_report(make_run: MakeRun) -> None:
    """File names are bytes; those that are not UTF-8 are shown with escapes."""
    folder = make_run(until="train", ending=None, epochs=1)
    Journal(folder.events, "run", "run").record("RunFailed", error="cannot read caf\udce9.jpg", next_step="")
    write_report(folder)
    assert json.loads(folder.report_json.read_bytes())["error"]["message"] == "cannot read caf\\udce9.jpg"


def test_damaged_mistakes_are_named_and_the_rest_is_reported(make_run: MakeRun) -> None:
    """A broken Parquet file costs the pictures and nothing else."""
    folder = make_run()
    folder.mistakes.write_bytes(b"PAR1 not really")
    report = write_report(folder)
    assert len(report.problems) == 1
    assert "mistakes.parquet" in report.problems[0]
    assert "mistakes.parquet" in folder.report_html.read_text()


def test_reports_are_rebuilt_from_the_rest_and_leave_nothing_behind(make_run: MakeRun) -> None:
    """Deleting a report loses nothing, and writing one leaves no temporary file."""
    folder = make_run()
    write_report(folder)
    first = folder.report_html.read_bytes(), folder.report_json.read_bytes()
    folder.report_html.unlink()
    write_report(folder)
    assert (folder.report_html.read_bytes(), folder.report_json.read_bytes()) == first
    assert not list(folder.path.glob(".*"))
