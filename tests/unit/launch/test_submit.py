"""What is sent to a cluster, decided before anything is."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from orchestrator.errors import JobError
from orchestrator.launch.submit import JOB_IN_PACKAGE, exit_code_of, make_parcel, open_jobs, submitted_name
from orchestrator.record.folder import Root
from orchestrator.spec.load import load_job
from orchestrator.stages.jobs import Submission


@pytest.fixture
def job(tmp_path: Path) -> Path:
    path = tmp_path / "job.yaml"
    path.write_text("name: shapes\ndata: {source: images}\n")
    return path


def test_the_name_is_made_from_what_the_job_means(job: Path) -> None:
    """Comments and order do not matter, values do, and images that only the cluster sees are not asked for."""
    first = submitted_name(load_job(job))
    job.write_text("# again\ndata: {source: images}\nname: shapes\n")

    assert submitted_name(load_job(job)) == first
    assert submitted_name(load_job(job, ["train.epochs=3"])) != first


def test_the_command_repeats_the_job_on_the_cluster(job: Path, tmp_path: Path) -> None:
    """The job file travels as it was written; changes, the absolute source, name and root stand in the command, safely quoted."""
    root = Root(tmp_path / "a root; rm -rf")
    loaded = load_job(job, ["train.epochs=3"])
    parcel = make_parcel(loaded, ["train.epochs=3"], root, tmp_path)
    words = shlex.split(parcel.command)

    assert words[:6] == ["python", "-m", "orchestrator.cli.main", "run", JOB_IN_PACKAGE, "train.epochs=3"]
    assert load_job(job, words[5:7]).job == loaded.job
    assert words[7:] == ["--name", parcel.run, "--root", str(root.path)]
    assert parcel.job_text == job.read_bytes()


def test_weights_are_named_as_seen_from_here(job: Path, tmp_path: Path) -> None:
    """The job file travels to another folder, so a relative path in it would lead elsewhere."""
    job.write_text("name: shapes\ndata: {source: images}\nmodel: {weights: nets/a.safetensors}\n")
    parcel = make_parcel(load_job(job), [], Root(tmp_path), tmp_path)

    assert f'model.weights="{tmp_path / "nets" / "a.safetensors"}"' in shlex.split(parcel.command)


@pytest.mark.parametrize(
    "address", ["ray://host:10001", "ftp://x", "http://user:secret@host:8265", "http://host/path", "two words", "anyscale://x"]
)
def test_only_addresses_of_dashboards_are_taken(address: str) -> None:
    """Exit code 2, and what one looks like."""
    with pytest.raises(JobError, match="is not the address of a Ray dashboard") as raised:
        open_jobs(address)
    assert "http://HOST:8265" in raised.value.next_step


@pytest.mark.parametrize(
    ("status", "exit_code", "answer"), [("done", 0, 0), ("failed", 2, 2), ("failed", 6, 6), ("failed", None, 1), ("stopped", -2, 130)]
)
def test_the_exit_code_is_the_runs_own(status: str, exit_code: int | None, answer: int) -> None:
    """A failed run answers as it would here; one that could not start is 1; a stopped one can be resumed."""
    assert exit_code_of(Submission("a", "a", "/shared", status, "", exit_code, None, None)) == answer
