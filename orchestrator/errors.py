"""The errors a user may meet: what is wrong, where, and what to do next.

Every class carries the exit code the command line answers with, keeps its arguments in ``args`` and
therefore survives pickling between processes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass


class OrchestratorError(Exception):
    """Root of all errors with a message meant for the user.

    Args:
        message: What is wrong and with what, in one line.
        next_step: What the user can do about it; empty when the message already says it.
    """

    exit_code = 1

    def __init__(self, message: str, next_step: str = "") -> None:
        super().__init__(message, next_step)
        self.message = message
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.message}\n  next: {self.next_step}" if self.next_step else self.message


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a job file or with what it points to."""

    where: str
    """``file:line  dotted.key``, ``command line  key`` or the path of a folder."""
    what: str
    """The fault and the nearest remedy, in one line."""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class JobError(OrchestratorError):
    """The job file, an override, or the folder it names is not usable (exit code 2).

    Args:
        problems: All faults found, in the order of the file.
        next_step: What the user can do about them.
    """

    exit_code = 2

    def __init__(self, problems: tuple[Problem, ...], next_step: str = "") -> None:
        super().__init__("\n".join(str(problem) for problem in problems), next_step)
        self.args = (problems, next_step)
        self.problems = problems


class PlanError(JobError):
    """The job is well formed, but cannot run on this cluster as asked (exit code 2)."""


class DataError(OrchestratorError):
    """The images cannot be used: none readable, or more unreadable ones than the job allows."""


class TrainingError(OrchestratorError):
    """Training or evaluation stopped: a loss that is not finite, ranks that diverged, a dead worker group."""


class ClusterError(OrchestratorError):
    """Ray could not be reached or started."""

    exit_code = 3


class RunNotFound(OrchestratorError):
    """No run of that name."""

    exit_code = 4


class StorageError(OrchestratorError):
    """Storage is full, in conflict with another writer, or holds something damaged."""

    exit_code = 6


class Interrupted(OrchestratorError):
    """The user asked to stop; the run can be resumed."""

    exit_code = 130


TRAVELLING = {kind.__name__: kind for kind in (DataError, TrainingError, StorageError)}
"""What work on images may raise, by name."""


def error_to_json(error: OrchestratorError) -> str:
    """An error as text, for ways on which exceptions lose what they are; a kind that is not in `TRAVELLING` becomes its root."""
    return json.dumps([type(error).__name__, error.message, error.next_step])


def error_from_json(text: str) -> OrchestratorError:
    """The inverse of `error_to_json`."""
    kind, message, next_step = json.loads(text)
    return TRAVELLING.get(kind, OrchestratorError)(message, next_step)
