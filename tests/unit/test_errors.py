"""Errors meant for the user keep what they say on the way between processes."""

from __future__ import annotations

import pickle

import pytest

from orchestrator import errors
from orchestrator.errors import (
    ClusterError,
    DataError,
    Interrupted,
    JobError,
    OrchestratorError,
    PlanError,
    Problem,
    RunNotFound,
    StorageError,
    TrainingError,
)

EXIT_CODES = {
    OrchestratorError: 1,
    DataError: 1,
    TrainingError: 1,
    JobError: 2,
    PlanError: 2,
    ClusterError: 3,
    RunNotFound: 4,
    StorageError: 6,
    Interrupted: 130,
}
PROBLEMS = (Problem("job.yaml:3  train.lr", "must be above 0"), Problem("command line  train.epocs", "unknown; did you mean train.epochs?"))


def test_every_class_of_error_has_the_exit_code_of_the_contract() -> None:
    """A new class of error must be entered here with its code."""
    classes = {value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, OrchestratorError)}
    assert {kind: kind.exit_code for kind in classes} == EXIT_CODES


@pytest.mark.parametrize("kind", [kind for kind in EXIT_CODES if not issubclass(kind, JobError)])
def test_errors_survive_pickling(kind: type[OrchestratorError]) -> None:
    """Class, message, next step, notes and exit code arrive unchanged."""
    error = kind("the disk is full", "free space")
    error.add_note("a note")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 -- our own bytes
    assert type(copy) is kind
    assert (copy.message, copy.next_step, copy.exit_code, copy.__notes__) == ("the disk is full", "free space", kind.exit_code, ["a note"])
    assert str(copy) == "the disk is full\n  next: free space"


@pytest.mark.parametrize("kind", [JobError, PlanError])
def test_errors_of_jobs_survive_pickling_with_all_their_problems(kind: type[JobError]) -> None:
    """The problems stay values."""
    copy = pickle.loads(pickle.dumps(kind(PROBLEMS, "correct the job")))  # noqa: S301 -- our own bytes
    assert type(copy) is kind
    assert (copy.problems, copy.next_step) == (PROBLEMS, "correct the job")
    assert copy.message.splitlines() == [
        "job.yaml:3  train.lr: must be above 0",
        "command line  train.epocs: unknown; did you mean train.epochs?",
    ]


def test_an_error_without_a_next_step_is_one_line() -> None:
    """No empty `next:`."""
    assert str(OrchestratorError("that is all")) == "that is all"
