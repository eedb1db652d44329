"""Ray's Jobs API: submissions are sent to a running cluster, watched and stopped through it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from ray.exceptions import RayError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from orchestrator.errors import ClusterError
from orchestrator.stages.environment import SETTINGS

ANSWER_S = 10.0
PATIENCE_S = 60.0
"""A cluster that is followed may be out of reach for so long."""
RETRY_S = 1.0
STOP_WAIT_S = 60
"""What a stopped job has to finish its step and save, before Ray kills it."""
KIND = "orchestrator"
"""Marks our submissions among all jobs of a cluster."""
CHATTY = ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk")
"""They tell of uploads and connections as they go."""
ENDED = ("done", "failed", "stopped")
STATES = {
    JobStatus.PENDING: "pending",
    JobStatus.RUNNING: "running",
    JobStatus.SUCCEEDED: "done",
    JobStatus.FAILED: "failed",
    JobStatus.STOPPED: "stopped",
}


@dataclass(frozen=True)
class Submission:
    """One start of a run on a cluster, as the cluster tells it."""

    id: str
    """The run's name; later starts of the same run have a number behind it."""
    run: str
    root: str
    """Folder on the cluster that holds `runs/` and `data/`."""
    status: str
    """pending, running, done, failed or stopped."""
    message: str
    exit_code: int | None
    started: float | None
    """Seconds since 1970."""
    ended: float | None

    @property
    def is_over(self) -> bool:
        return self.status in ENDED


class Jobs:
    """The submissions of one cluster.

    Args:
        address: `http://HOST:PORT` of the cluster's dashboard.

    Raises:
        ClusterError: Nobody answers there, it is no Ray, or it does not accept our token.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        token = read_token()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        _check(address, headers)
        for name in CHATTY:
            logging.getLogger(name).setLevel(logging.ERROR)
        with _explained(address):
            self._client = JobSubmissionClient(address, headers=headers)

    def list(self) -> list[Submission]:
        """All our submissions, the newest first."""
        with _explained(self.address):
            found = [_submission(job) for job in self._client.list_jobs() if (job.metadata or {}).get("kind") == KIND]
        return sorted(found, key=lambda submission: submission.started or 0.0, reverse=True)

    def get(self, submission: str) -> Submission:
        """How a submission stands."""
        with _explained(self.address):
            return _submission(self._client.get_job_info(submission))

    def submit(self, submission: str, run: str, root: str, entrypoint: str, package: Path) -> None:
        """Send a package (a zip file) and start `entrypoint` in it.

        Raises:
            ClusterError: The cluster refused it.
        """
        environment = {name: value for name, value in SETTINGS.items() if not name.startswith("RAY_AUTH")}
        environment |= {"RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S), "PYTHONUNBUFFERED": "1"}
        with _explained(self.address):
            self._client.submit_job(
                entrypoint=entrypoint,
                submission_id=submission,
                runtime_env={"working_dir": str(package), "env_vars": environment},
                metadata={"kind": KIND, "run": run, "root": root},
            )

    def stop(self, submission: str) -> None:
        """Ask a submission to save and stop."""
        with _explained(self.address):
            self._client.stop_job(submission)

    def logs(self, submission: str) -> str:
        """All that it has printed."""
        with _explained(self.address):
            return str(self._client.get_job_logs(submission))

    def follow(self, submission: str) -> Iterator[str]:
        """What it prints, from the beginning until it ends; a connection that breaks is made anew.

        Raises:
            ClusterError: The cluster has not answered for a minute.
        """
        shown = 0
        with asyncio.Runner() as runner:
            while True:
                over = self._get_patiently(submission).is_over
                chunks, seen, whole = self._client.tail_job_logs(submission), 0, False
                try:
                    while (chunk := runner.run(_next(chunks))) is not None:
                        yield chunk[max(0, shown - seen) :]
                        seen += len(chunk)
                        shown = max(shown, seen)
                    whole = True
                except (RuntimeError, aiohttp.ClientError, OSError):  # the next connection shows what this one could not
                    if over:
                        yield self.logs(submission)[shown:]
                    time.sleep(RETRY_S)
                if over or (whole and self._get_patiently(submission).is_over):
                    return

    def _get_patiently(self, submission: str) -> Submission:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return self.get(submission)
            except ClusterError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(RETRY_S)


async def _next(chunks: AsyncIterator[str]) -> str | None:
    return await anext(chunks, None)


def read_token() -> str:
    """The secret of the cluster, as Ray's own programs find it; empty where authentication is off."""
    if os.environ.get("RAY_AUTH_MODE") != "token":
        return ""
    if given := os.environ.get("RAY_AUTH_TOKEN"):
        return given
    path = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
    try:
        return path.read_text().strip()
    except OSError as error:
        message = f"the cluster's token cannot be read: {path}: {error.strerror}"
        raise ClusterError(message, "put the token there, readable by you alone, or set RAY_AUTH_TOKEN_PATH") from error


def _check(address: str, headers: dict[str, str]) -> None:
    """Ask for the version: Ray's own client takes half a minute to say that nobody is there."""
    request = urllib.request.Request(f"{address}/api/version", headers=headers)  # noqa: S310 -- the caller has checked the scheme
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:  # noqa: S310
            json.load(answer)["ray_version"]
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            where = "RAY_AUTH_TOKEN" if "RAY_AUTH_TOKEN" in os.environ else os.environ.get("RAY_AUTH_TOKEN_PATH", "RAY_AUTH_TOKEN_PATH")
            message = f"the cluster at {address} does not accept the token in {where}"
            raise ClusterError(message, "put the cluster's token there, or point RAY_AUTH_TOKEN_PATH at it") from error
        raise ClusterError(f"no Ray cluster at {address}: HTTP status {error.code}", _ADDRESS_HINT) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ClusterError(f"no Ray cluster at {address}: what answers there is not Ray's dashboard", _ADDRESS_HINT) from error
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise ClusterError(f"no Ray cluster answers at {address}: {reason}", _ADDRESS_HINT) from error


_ADDRESS_HINT = "--address takes the cluster's dashboard, for example http://HOST:8265; is the cluster up, and the port forwarded?"


@contextmanager
def _explained(address: str) -> Iterator[None]:
    """What Ray's client raises, as one line."""
    try:
        yield
    except (RuntimeError, OSError, RayError) as error:
        line = next((line for line in reversed(str(error).strip().splitlines()) if line.strip()), type(error).__name__)
        raise ClusterError(
            f"the cluster at {address} did not do it: {line.strip()[:300]}", "look at the cluster with: ray status"
        ) from error


def _submission(job: JobDetails) -> Submission:
    metadata: dict[str, Any] = job.metadata or {}
    return Submission(
        id=str(job.submission_id),
        run=str(metadata.get("run", job.submission_id)),
        root=str(metadata.get("root", "")),
        status=STATES[job.status],
        message=(job.message or "").strip(),
        exit_code=job.driver_exit_code,
        started=job.start_time / 1000 if job.start_time else None,
        ended=job.end_time / 1000 if job.end_time else None,
    )
