"""The ceiling of a job: how fast it trains when its images come from memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from orchestrator.durable import read_json
from orchestrator.launch.run import RunOutcome, RunRequest, Watch, run_job, run_name
from orchestrator.record.folder import Root, RunFolder
from orchestrator.reports.ceiling import ceiling_line
from orchestrator.reports.fold import fold
from orchestrator.spec.job import JobSpec
from orchestrator.spec.load import load_job

EPOCHS = "train.epochs"


def measure_ceiling(
    job: Path, overrides: Sequence[str], root: Root, *, in_process: bool, command: str, watch: Watch, announce: Callable[[str], None]
) -> tuple[RunOutcome, str]:
    """Train on one batch from memory, in a run of its own: for one epoch, or for as many as `overrides` say.

    Returns:
        The run, and its speed beside that of the run of the same job on its images, in one line.

    Raises:
        OrchestratorError: As `run_job`.
    """
    asked = load_job(job, overrides)
    others = [change for change in overrides if change.partition("=")[0] != EPOCHS]
    loaded = asked if len(others) < len(overrides) else load_job(job, [*overrides, f"{EPOCHS}=1"])
    outcome = run_job(RunRequest(loaded, root, "train", in_process, command, watch, announce, synthetic=True))
    real = real_run(root, str(read_json(outcome.folder.plan)["fingerprint"]), asked.job, load_job(job, others).job)
    return outcome, ceiling_line(outcome.report, fold(real) if real else None)


def real_run(root: Root, fingerprint: str, *jobs: JobSpec) -> RunFolder | None:
    """The run of the first of the jobs that has one; they differ in the number of epochs, which changes no speed."""
    folders = (root.run(run_name(job, fingerprint)) for job in jobs)
    return next((folder for folder in folders if folder.events.is_dir()), None)
