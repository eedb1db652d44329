"""Which parameters can be tuned, and how a mistake in a space is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import JobError
from orchestrator.spec.job import JobSpec
from orchestrator.spec.load import load_job
from orchestrator.spec.tune import own_value, tuned_job, with_parameters
from orchestrator.spec.yaml import dump_yaml

JOB = """\
name: pets
data: {source: images}
augment: [{random_crop: {padding: 2}}, horizontal_flip]
train: {epochs: 3}
"""


def load(place: Path, tune: str) -> JobSpec:
    path = place / "job.yaml"
    path.write_text(JOB + tune)
    return load_job(path).job


@pytest.mark.parametrize(
    ("space", "found"),
    [
        ("{train.lrr: {uniform: [0.1, 1]}}", 'no such parameter; did you mean "train.lr"?'),
        ("{lr: {uniform: [0.1, 1]}}", 'did you mean "train.lr"'),
        ("{data.image.size: {choice: [32, 64]}}", "data is the same in every trial"),
        ("{train.workers: {choice: [1, 2]}}", "it cannot be tuned"),
        ("{train.micro_batch: {choice: [1, 2]}}", "it cannot be tuned"),
        ("{model.weights: {choice: [a.pt, b.pt]}}", "model.weights is the same in every trial"),
        ("{augment.1.random_crop.padding: {randint: [1, 4]}}", "the job has no augment.1.random_crop.padding"),
        ("{train.lr: {choice: [0.1, -1]}}", "must be greater than 0, not -1"),
        ("{train.epochs: {uniform: [1, 3]}}", "must be a whole number"),
        ("{train.momentum: {uniform: [0.5, 1.5]}}", "must be less than 1, not 1.5"),
        ("{augment.5.random_crop.padding: {randint: [0, 4]}}", "the job has no augment.5"),
        ("{train.lr: {uniform: [1.0, 0.1]}}", "the smaller one first"),
        ("{train.lr: {loguniform: [0, 1]}}", "above 0"),
        ("{train.lr: {normal: [0, 1]}}", "must be one of choice, uniform, loguniform, randint"),
        ("{train.lr: {choice: []}}", "choice takes a list of values"),
        ("{train.lr: 0.1}", "must be one of choice"),
        ("{}", "is empty; name at least one parameter"),
    ],
)
def test_a_space_that_would_fail_is_refused(tmp_path: Path, space: str, found: str) -> None:
    """Before anything starts, with the line of the key."""
    with pytest.raises(JobError, match=r"job\.yaml:6") as raised:
        load(tmp_path, f"tune:\n  space: {space}\n")
    assert found in str(raised.value)


def test_a_grid_is_made_of_choices_and_fits_the_trials(tmp_path: Path) -> None:
    """A grid over a range has no end, and one with more points than trials is not cut off silently."""
    with pytest.raises(JobError, match="a grid needs choice"):
        load(tmp_path, "tune: {search: grid, space: {train.lr: {uniform: [0.1, 1]}}}\n")
    with pytest.raises(JobError, match=r"tune\.trials=5 holds them"):
        load(tmp_path, "tune: {search: grid, trials: 4, space: {train.lr: {choice: [1, 2, 3, 4]}}}\n")


def test_a_trial_is_the_job_with_other_values(tmp_path: Path) -> None:
    """Only the named parameters differ, in lists as well, and a trial does not tune."""
    job = load(tmp_path, "tune: {space: {train.lr: {uniform: [0.1, 1]}, augment.0.random_crop.padding: {randint: [1, 4]}}}\n")
    trial = with_parameters(job, {"train.lr": 0.25, "augment.0.random_crop.padding": 4})

    assert own_value(trial, "train.lr") == 0.25
    assert own_value(trial, "augment.0.random_crop.padding") == 4
    assert trial.tune is None
    assert with_parameters(trial, {"train.lr": job.train.lr, "augment.0.random_crop.padding": 2}) == job.model_copy(update={"tune": None})


def test_a_trial_with_another_optimiser_is_the_job_that_is_written_for_it(tmp_path: Path) -> None:
    """What the user left out means the same in the trial and in the tuned job: AdamW is not tried at SGD's rate, nor SGD at AdamW's."""
    space = "tune: {space: {train.optimizer: {choice: [sgd, adamw]}}}\n"
    defaults = {"sgd": (0.1, 5e-4), "adamw": (1e-3, 0.05)}
    path = tmp_path / "tuned.yaml"
    for own, other in (("sgd", "adamw"), ("adamw", "sgd")):
        (tmp_path / "job.yaml").write_text(JOB.replace("epochs: 3", f"epochs: 3, optimizer: {own}") + space)
        job = load_job(tmp_path / "job.yaml").job
        trial = with_parameters(job, {"train.optimizer": other})
        assert (trial.train.lr, trial.train.weight_decay) == defaults[other]
        path.write_text(dump_yaml(tuned_job(job, {"train.optimizer": other})))
        assert load_job(path).job == trial


def test_a_key_that_the_job_leaves_out_can_be_tuned(tmp_path: Path) -> None:
    """One without a default too: the job's own value is none."""
    job = load(tmp_path, "tune: {space: {augment: {choice: [[], [horizontal_flip]]}}}\n")
    assert own_value(job, "model.kwargs") is None
    assert with_parameters(job, {"model.kwargs": None}) == job.model_copy(update={"tune": None})


def test_the_tuned_job_is_as_short_as_the_job(tmp_path: Path) -> None:
    """It loads, holds the best parameters, and repeats no default."""
    job = load(tmp_path, "tune: {space: {train.lr: {uniform: [0.1, 1]}, model.norm: {choice: [batch, group]}}}\n")
    path = tmp_path / "tuned.yaml"
    path.write_text(dump_yaml(tuned_job(job, {"train.lr": 0.5, "model.norm": "group"})))

    assert load_job(path).job == with_parameters(job, {"train.lr": 0.5, "model.norm": "group"})
    assert len(path.read_text().splitlines()) <= 20
