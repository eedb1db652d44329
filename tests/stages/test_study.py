"""A study on real Ray Tune: what its trials read, what they leave, and what stops them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from workshop import Workshop

from orchestrator.errors import TrainingError
from orchestrator.launch.run import RunOutcome
from orchestrator.record.folder import RunFolder
from orchestrator.record.journal import Event, Journal, read_events
from orchestrator.spec.load import load_job
from orchestrator.spec.tune import TuneSpec
from orchestrator.stages.tune import study_results

Make = Callable[..., Workshop]
LR = "{train.lr: {loguniform: [0.001, 0.5]}}"


def tune(workshop: Workshop, *overrides: str) -> RunOutcome:
    return workshop.run(*overrides, in_process=False, until="tune")


def events_of(folder: RunFolder, name: str) -> list[Event]:
    return [event for event in read_events(folder.events) if event["event"] == name]


def test_a_study_improves_a_job_without_reading_an_original_image(make_workshop: Make, ray_cluster: None) -> None:
    """Trials train on the shards prepared once: originals that turn to zeros after prepare change nothing, and the counter stays 0.

    The first trial is the job itself, trained to its end; the best one is measured on the split that no trial saw.
    """
    workshop = make_workshop()
    workshop.run(in_process=True, until="prepare")
    for path in workshop.images.rglob("*.png"):
        times = path.stat().st_atime_ns, path.stat().st_mtime_ns
        path.write_bytes(bytes(path.stat().st_size))
        os.utime(path, ns=times)
    folder = tune(workshop, "train.lr=1e-5", "train.epochs=3", f"tune={{space: {LR}, trials: 5}}").folder
    study = json.loads(folder.report_json.read_bytes())["study"]

    assert [trial["number"] for trial in study["trials"]] == [0, 1, 2, 3, 4]
    assert study["original_images_read"] == 0
    assert study["trials"][0] | {"seconds": 0, "value": 0} == {
        "number": 0,
        "parameters": {"train.lr": "1e-05"},
        "state": "finished",
        "epochs": 3,
        "value": 0,
        "seconds": 0,
        "error": "",
    }
    assert study["best"] != 0
    assert study["split"] == "test"
    assert study["after"] > study["before"]
    assert load_job(folder.tuned_job).job.train.lr != 1e-5
    assert {json.loads(folder.trial(number).metrics.read_bytes())["split"] for number in (0, study["best"])} == {"test"}
    assert all(folder.trial(number).report_html.is_file() for number in range(5))


def test_a_study_that_is_started_again_trains_nothing_twice(make_workshop: Make, ray_cluster: None) -> None:
    """Trials that ended keep every byte; a new start only repeats their results to the scheduler and ends with the same best trial."""
    workshop = make_workshop()
    space = f"tune={{space: {LR}, trials: 4}}"
    folder = tune(workshop, space).folder
    best = events_of(folder, "StudyFinished")[-1]["best"]
    weights = {path: path.stat().st_mtime_ns for path in folder.trials.glob("*/model/weights.safetensors")}
    folder.tuned_job.unlink()
    tune(workshop, space)

    assert len(weights) == 4
    assert {path: path.stat().st_mtime_ns for path in weights} == weights
    assert events_of(folder, "StudyFinished")[-1]["best"] == best
    assert all(len(events_of(folder.trial(number), "TrialEnded")) == 1 for number in range(4))
    assert sorted(event["number"] for event in events_of(folder, "TrialStarted")) == [0, 1, 2, 3]


def test_a_trial_trains_what_the_job_would_train(make_workshop: Make, ray_cluster: None) -> None:
    """The same loop on the same shards: the first trial holds the weights of the job itself, bit by bit."""
    workshop = make_workshop()
    alone = workshop.run("train.lr=0.01", in_process=True, until="train").folder.weights.read_bytes()
    folder = tune(workshop, "train.lr=0.01", "tune={space: {train.lr: {choice: [0.2]}}, trials: 2}").folder

    assert folder.trial(0).weights.read_bytes() == alone


def test_when_every_trial_fails_the_study_fails_with_the_reason(make_workshop: Make, ray_cluster: None) -> None:
    """One clear error, exit code 1, and no tuned job."""
    workshop = make_workshop()
    with pytest.raises(TrainingError, match="all 2 trials failed; the first: the loss is not finite") as raised:
        tune(workshop, "train.lr=1e18", "train.warmup=0", "tune={space: {train.lr: {choice: [1e17]}}, trials: 2}")

    assert raised.value.exit_code == 1
    assert not list(workshop.root.runs.glob("*/tuned.yaml"))


def test_one_failed_trial_does_not_end_a_study(make_workshop: Make, ray_cluster: None) -> None:
    """It is listed as failed with its reason, and the others decide."""
    workshop = make_workshop()
    folder = tune(workshop, "train.lr=0.01", "train.warmup=0", "tune={space: {train.lr: {choice: [1e18]}}, trials: 2}").folder
    failed = json.loads(folder.report_json.read_bytes())["study"]["trials"][1]

    assert failed["state"] == "failed"
    assert "not finite" in failed["error"]


def test_optuna_chooses_from_earlier_results(make_workshop: Make, ray_cluster: None) -> None:
    """Its points lie in the space, the first is the job's own, and a second start asks for no other points."""
    workshop = make_workshop()
    wanted = f"tune={{space: {LR}, trials: 4, search: optuna, scheduler: none}}"
    folder = tune(workshop, "train.epochs=1", "train.lr=0.05", wanted).folder
    begun = {event["number"]: event["parameters"]["train.lr"] for event in events_of(folder, "TrialStarted")}

    assert begun[0] == 0.05
    assert len(set(begun.values())) == 4
    assert all(0.001 <= rate <= 0.5 for rate in begun.values())
    folder.tuned_job.unlink()
    tune(workshop, "train.epochs=1", "train.lr=0.05", wanted)
    assert len(list(folder.trials.iterdir())) == 4


@pytest.mark.slow
def test_trials_of_several_workers_nest_a_worker_group(make_workshop: Make, ray_cluster: None) -> None:
    """Two trials of two workers each finish on two CPUs: one after the other, without waiting for each other's workers."""
    workshop = make_workshop()
    folder = tune(workshop, "train.epochs=1", "train.workers=2", "tune={space: {train.lr: {choice: [0.2]}}, trials: 2}").folder

    for number in range(2):
        (verified,) = events_of(folder.trial(number), "WeightsVerified")
        assert verified["workers"] == 2


def test_an_epoch_without_a_loss_is_no_result(tmp_path: Path) -> None:
    """A validation loss that was not finite, with `on_nonfinite: skip`: the other epochs count; without any the trial has no value."""
    study, spec = RunFolder(tmp_path), TuneSpec(space={"train.lr": {"choice": [0.1, 0.2]}}, metric="loss")
    for number, losses in enumerate(([None, 0.5, 0.25], [None])):
        journal = Journal(study.trial(number).events, "train-0", "train")
        for epoch, loss in enumerate(losses):
            journal.record("EpochFinished", epoch=epoch, validation_loss=loss, validation_accuracy=0.5, seconds=1.0)
    assert [(result.epochs, result.value) for result in study_results(study, spec)] == [(3, 0.25), (1, None)]
