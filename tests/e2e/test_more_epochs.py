"""A finished run trains on when it is given more epochs."""

from __future__ import annotations

import json

from shell import Shell

from orchestrator.record.folder import RunFolder
from orchestrator.record.journal import read_events
from orchestrator.spec.load import load_job


def test_a_finished_run_is_continued_with_more_epochs_and_only_then(shell: Shell) -> None:
    """resume says that there is nothing to do, --epochs trains on from the last checkpoint, keeps the best epoch of all of them, and
    evaluates again; job, plan and report have the new number, and the number that is reached is refused in one line.
    """
    shell.write_job(epochs=2)
    assert shell("run", "job.yaml", "--in-process").returncode == 0
    (run,) = [RunFolder(path) for path in shell.place.glob("runs/*")]
    nothing = shell("resume", run.name)
    assert nothing.returncode == 0, nothing.stderr
    assert "nothing to do" in nothing.stderr

    refused = shell("resume", run.name, "--epochs", "2")
    assert refused.returncode == 2, refused.stderr
    assert f"{run.name} has 2 epochs already" in refused.stderr
    assert len(refused.stderr.splitlines()) <= 3

    done = shell("resume", run.name, "--epochs", "5", "--in-process")
    assert done.returncode == 0, done.stderr
    assert "trains on to 5 epochs; the learning rate follows the schedule for the new total" in done.stderr
    assert "train: 2 epochs became 5" in shell("logs", run.name).stdout
    events = read_events(run.events)
    started = [event["resumed_from_step"] for event in events if event["event"] == "TrainingStarted"]
    assert started[0] == 0
    assert started[1] == 2 * json.loads(run.plan.read_bytes())["train"]["steps_per_epoch"]
    assert json.loads(run.plan.read_bytes())["train"]["epochs"] == 5
    assert load_job(run.resolved_job).job.train.epochs == 5
    assert json.loads(run.report_json.read_bytes())["training"]["planned_epochs"] == 5

    accuracies = {event["epoch"]: event["validation_accuracy"] for event in events if event["event"] == "EpochFinished"}
    finished = [event for event in events if event["event"] == "TrainingFinished"]
    assert list(accuracies) == list(range(5))
    assert [event["best_epoch"] for event in finished] == [
        max(range(count), key=lambda epoch: (accuracies[epoch], -epoch)) for count in (2, 5)
    ]
    assert sum(event["event"] == "ModelEvaluated" for event in events) == 2
    assert "nothing to do" in shell("resume", run.name).stderr
