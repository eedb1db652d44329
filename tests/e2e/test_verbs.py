"""The verbs around a run, as a user types them one after the other."""

from __future__ import annotations

import json
from pathlib import Path

from shell import Shell


def files_of(place: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in place.rglob("*") if path.is_file()}


def test_a_first_session(shell: Shell) -> None:
    """plan does nothing; run ends with accuracy, folder, report and the next command; what that command says is true; again is free."""
    shell.write_job(epochs=3)
    before = files_of(shell.place)
    planned = shell("plan", "job.yaml")
    assert planned.returncode == 0, planned.stderr
    assert "prepare (to do), train (to do), evaluate (to do)" in planned.stdout
    assert files_of(shell.place) == before

    done = shell("run", "job.yaml", "--in-process")
    assert done.returncode == 0, done.stderr
    (run,) = shell.place.glob("runs/*")
    assert str(run) in planned.stdout
    printed = done.stdout
    assert "test accuracy" in printed
    assert str(run / "report.html") in printed
    assert "\x1b" not in done.stdout + done.stderr
    (command,) = [line.removeprefix("next").split() for line in printed.splitlines() if line.startswith("next")]
    following = shell(*command[1:], "--in-process")
    assert following.returncode == 0, following.stderr
    assert "validation accuracy" in following.stdout

    files = files_of(run)
    again = shell("run", "job.yaml")
    assert again.returncode == 0, again.stderr
    assert "nothing to do" in again.stderr
    assert files_of(run) == files


def test_programs_read_json(shell: Shell) -> None:
    """plan and report print one JSON document on stdout, and report.json says the same as the evaluation."""
    shell.write_job()
    plan = json.loads(shell("plan", "job.yaml", "--json").stdout)
    assert shell("run", "job.yaml", "--in-process").returncode == 0
    report = json.loads(shell("report", plan["run"], "--json").stdout)
    metrics = json.loads((shell.place / "runs" / plan["run"] / "evaluation" / "metrics.json").read_bytes())

    assert report["run"] == plan["run"]
    assert report["status"] == "done"
    assert report["metrics"]["accuracy"] == metrics["accuracy"]


def test_the_stages_can_be_done_one_by_one(shell: Shell) -> None:
    """prepare, train and run do what is missing, in the same run, and each stage happens once."""
    shell.write_job()
    for verb in ("prepare", "train", "run"):
        done = shell(verb, "job.yaml", "--in-process")
        assert done.returncode == 0, done.stderr
    (run,) = shell.place.glob("runs/*")
    assert len(list(shell.place.glob("data/*/manifest.json"))) == 1
    events = [json.loads(line) for path in (run / "events").glob("*.jsonl") for line in path.read_text().splitlines()]
    assert sum(event["event"] == "TrainingFinished" for event in events) == 1


def test_the_ceiling_of_a_job_is_one_line_beside_what_it_reached(shell: Shell) -> None:
    """`train --feed synthetic` ends with both speeds, no accuracy and no next command; a feed of another name is exit code 2."""
    shell.write_job()
    assert shell("train", "job.yaml", "--in-process").returncode == 0
    (real,) = shell.place.glob("runs/*")
    done = shell("train", "job.yaml", "--feed", "synthetic", "--in-process")
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.startswith("ceiling ")
    assert f"{real.name} reached" in last
    assert "accuracy means nothing" in done.stdout
    epochs = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("train: epoch")]
    assert epochs
    assert not [line for line in epochs if "accuracy" in line]
    assert "next" not in [line.partition(" ")[0] for line in done.stdout.splitlines()]
    assert shell("train", "job.yaml", "--feed", "nothing").returncode == 2


def test_an_unknown_run_is_exit_code_4(shell: Shell) -> None:
    """Every verb that takes a run says which runs there are none of, without a traceback."""
    for verb in ("resume", "evaluate", "report"):
        done = shell(verb, "no-such-run")
        assert done.returncode == 4, done.stderr
        assert "no-such-run" in done.stderr
        assert "Traceback" not in done.stderr
