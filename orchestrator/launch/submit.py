"""Sending a run to a Ray cluster, following it, and looking at what was sent."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import ClusterError, JobError, Problem, RunNotFound
from orchestrator.launch.cluster import TOKEN
from orchestrator.launch.package import Package, find_package, write_package
from orchestrator.record.folder import Root
from orchestrator.spec.job import JobSpec, resolved
from orchestrator.spec.load import LoadedJob
from orchestrator.stages.environment import set_environment

if TYPE_CHECKING:
    from orchestrator.stages.jobs import Jobs, Submission

JOB_IN_PACKAGE = ".orchestrator/job.yaml"
"""Where the job file lies in the package."""
ADDRESS = re.compile(r"(https?://)?[A-Za-z0-9._\-\[\]:]+/?")
STOP_DEADLINE_S = 90.0
LOOK_EVERY_S = 0.5
STOPPED = 130


@dataclass(frozen=True)
class Parcel:
    """What would be sent."""

    run: str
    root: Path
    command: str
    """Started on the cluster, in the package."""
    package: Package
    job_text: bytes | None
    trains_on: bool = False
    """A finished run is started as well: it has more to do."""


def open_jobs(address: str) -> Jobs:
    """The submissions of a cluster.

    Raises:
        JobError: That is no address of a dashboard.
        ClusterError: It cannot be reached, or does not accept our token.
    """
    if not ADDRESS.fullmatch(address):
        what = f"{address} is not the address of a Ray dashboard"
        raise JobError((Problem("--address", what),), "it looks like http://HOST:8265")
    set_environment(TOKEN)
    from orchestrator.stages.jobs import Jobs

    return Jobs((address if "://" in address else f"http://{address}").rstrip("/"))


def submitted_name(job: LoadedJob) -> str:
    """The same job is the same run, however often it is sent. The images are not asked: only the cluster may see them."""
    identity = json.dumps(resolved(job.job), sort_keys=True)
    return f"{job.job.name}-{hashlib.sha256(identity.encode()).hexdigest()[:6]}"


def make_parcel(job: LoadedJob, overrides: Sequence[str], root: Root, folder: Path) -> Parcel:
    """What sending a job means.

    Raises:
        JobError: The package is too large.
    """
    run = submitted_name(job)
    words = ["run", JOB_IN_PACKAGE, *overrides, *_places(job.job), "--name", run, "--root", str(root.path)]
    return Parcel(run, root.path, _command(words), find_package(folder, (root.runs, root.data)), job.text.encode())


def _places(job: JobSpec) -> list[str]:
    """Paths as seen from here: the job file travels to another folder."""
    places = {"data.source": job.data.source, "model.weights": job.model.weights}
    return [f"{key}={json.dumps(place, ensure_ascii=False)}" for key, place in places.items() if place is not None]


def make_resume_parcel(run: str, root: Path, folder: Path, epochs: int | None) -> Parcel:
    """What continuing a run on a cluster means: its job lies in its folder there."""
    package = find_package(folder, (folder / "runs", folder / "data"))
    words = ["resume", run, "--root", str(root), *([] if epochs is None else ["--epochs", str(epochs)])]
    return Parcel(run, root, _command(words), package, None, trains_on=epochs is not None)


def _command(words: Sequence[str]) -> str:
    return shlex.join(["python", "-m", "orchestrator.cli.main", *words])


def send(jobs: Jobs, parcel: Parcel, announce: Callable[[str], None]) -> Submission:
    """Start the run on the cluster, unless it runs there or is finished; a start that failed or was stopped is followed by another.

    Raises:
        ClusterError: The cluster refused it.
        JobError: It is to train on, and still runs.
    """
    earlier = [submission for submission in jobs.list() if submission.run == parcel.run]
    last = earlier[0] if earlier else None
    if parcel.trains_on and last is not None and last.status in ("pending", "running"):
        what = f"{parcel.run} is {last.status} at {jobs.address}; its epochs can be raised when it has ended"
        raise JobError((Problem("--epochs", what),), f"orchestrator stop {parcel.run} --address {jobs.address}")
    if not parcel.trains_on and last is not None and last.status in ("pending", "running", "done"):
        announce(f"{parcel.run} was submitted to {jobs.address} before and is {last.status}")
        return last
    name = parcel.run if not earlier else f"{parcel.run}.{len(earlier) + 1}"
    with tempfile.TemporaryDirectory(prefix="orchestrator-") as place:
        archive = Path(place) / "package.zip"
        write_package(parcel.package, {JOB_IN_PACKAGE: parcel.job_text} if parcel.job_text is not None else {}, archive)
        try:
            jobs.submit(name, parcel.run, str(parcel.root), parcel.command, archive)
            announce(f"submitted {name} to {jobs.address}")
        except ClusterError:
            if name not in {submission.id for submission in jobs.list()}:
                raise
            announce(f"{parcel.run} was submitted at the same moment by somebody else")
    return jobs.get(name)


def find_submission(jobs: Jobs, name: str) -> Submission:
    """The newest start of a run on the cluster.

    Raises:
        RunNotFound: It was not submitted there.
    """
    submissions = jobs.list()
    found = next((submission for submission in submissions if name in (submission.run, submission.id)), None)
    if found is None:
        known = ", ".join(dict.fromkeys(submission.run for submission in submissions[:5]))
        raise RunNotFound(f"no run named {name} was submitted to {jobs.address}", f"runs there: {known}" if known else "none was")
    return found


def stop_submission(jobs: Jobs, submission: Submission) -> Submission:
    """Ask it to save and stop, and wait until it has.

    Raises:
        ClusterError: It does not end.
    """
    if submission.is_over:
        return submission
    jobs.stop(submission.id)
    deadline = time.monotonic() + STOP_DEADLINE_S
    while not (state := jobs.get(submission.id)).is_over:
        if time.monotonic() > deadline:
            raise ClusterError(f"{submission.id} has not stopped within {STOP_DEADLINE_S:.0f} s", "look at it on the cluster's dashboard")
        time.sleep(LOOK_EVERY_S)
    return state


def exit_code_of(submission: Submission) -> int:
    """What the command line answers for a submission that is over."""
    if submission.status == "done":
        return 0
    if submission.status == "stopped":
        return STOPPED
    return submission.exit_code or 1
