"""Continuing a run, for more epochs than it was started with where that is asked for."""

from __future__ import annotations

from orchestrator.durable import write_atomically
from orchestrator.errors import JobError, Problem
from orchestrator.launch.run import EPOCHS_RAISED, is_synthetic
from orchestrator.record.folder import RunFolder
from orchestrator.record.journal import Journal
from orchestrator.record.lock import locked
from orchestrator.spec.job import resolved
from orchestrator.spec.load import LoadedJob, load_job
from orchestrator.spec.yaml import dump_yaml


def continued_job(folder: RunFolder, epochs: int | None) -> LoadedJob:
    """The job of a run that is to be continued.

    Args:
        folder: The run.
        epochs: Epochs in all that it is to train, more than before; written into the run. As before when left out. The learning
            rate follows its schedule for the new total from the next step on.

    Raises:
        JobError: The run has that many epochs already, or does not train by itself.
        StorageError: Another process works on the run, or the storage does not take the change.
    """
    if epochs is None:
        return load_job(folder.resolved_job)
    with locked(folder.path):
        before, raised = load_job(folder.resolved_job).job, load_job(folder.resolved_job, [f"train.epochs={epochs}"])
        if before.tune is not None or is_synthetic(folder):
            what = "--epochs", f"{folder.name} is {'a study' if before.tune is not None else 'a measurement'}; it cannot be trained on"
            raise JobError((Problem(*what),), "start a new run with train.epochs=N")
        if epochs <= before.train.epochs:
            what = "--epochs", f"{folder.name} has {before.train.epochs} epochs already; {epochs} is not more"
            raise JobError((Problem(*what),), f"without --epochs it is continued as it is: orchestrator resume {folder.name}")
        # First the event: killed in between, the run trains no further than before and --epochs can be given again.
        Journal(folder.events, "run", "train").record(EPOCHS_RAISED, before=before.train.epochs, after=epochs)
        write_atomically(folder.resolved_job, dump_yaml(resolved(raised.job)).encode())
    return load_job(folder.resolved_job)
