"""The run folder: names of files, and finding runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import RunNotFound
from orchestrator.record.folder import Root, RunFolder


def start_run(root: Root, name: str) -> RunFolder:
    folder = root.run(name)
    folder.path.mkdir(parents=True)
    folder.job.write_text("name: x\n")
    return folder


def test_the_names_of_the_folder_are_those_that_other_programs_rely_on() -> None:
    """The layout of the design, file by file."""
    folder = RunFolder(Path("runs/x"))
    files = {
        folder.job: "job.yaml",
        folder.resolved_job: "job.resolved.yaml",
        folder.plan: "plan.json",
        folder.events: "events",
        folder.checkpoints: "checkpoints",
        folder.metrics: "evaluation/metrics.json",
        folder.predictions: "evaluation/predictions.parquet",
        folder.mistakes: "evaluation/mistakes.parquet",
        folder.weights: "model/weights.safetensors",
        folder.preview: "preview.json",
        folder.report_json: "report.json",
        folder.report_html: "report.html",
        folder.stop_request: "stop",
        folder.regroup_request: "regroup",
    }
    assert {str(path.relative_to("runs/x")): name for path, name in files.items()} == {name: name for name in files.values()}
    assert folder.name == "x"


def test_a_run_is_found_by_its_name_and_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name, the path, and the folder one stands in all lead to the same run."""
    root = Root(tmp_path)
    folder = start_run(root, "mnist-1a2b3c")
    monkeypatch.chdir(folder.path)
    for name in ("mnist-1a2b3c", str(folder.path), "."):
        assert root.find_run(name) == RunFolder(folder.path.resolve())
        assert root.find_run(name).name == "mnist-1a2b3c"


def test_an_unknown_run_is_an_error_that_names_the_runs_there_are(tmp_path: Path) -> None:
    """Only folders that hold a job are called runs."""
    root = Root(tmp_path)
    start_run(root, "mnist-1a2b3c")
    (root.runs / "no-run").mkdir()
    (root.runs / "no-run" / "notes.txt").write_text("")
    (root.runs / ".DS_Store").write_text("")
    with pytest.raises(RunNotFound) as caught:
        root.find_run("mnist")
    assert "no run named mnist" in caught.value.message
    assert caught.value.next_step == "runs here: mnist-1a2b3c"
    assert caught.value.exit_code == 4


def test_without_runs_the_error_says_how_to_start_one(tmp_path: Path) -> None:
    """An empty root is where everybody begins."""
    with pytest.raises(RunNotFound) as caught:
        Root(tmp_path).find_run("mnist")
    assert "orchestrator run JOB" in caught.value.next_step
