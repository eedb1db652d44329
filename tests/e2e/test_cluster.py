"""Submissions to a real Ray cluster of two nodes: sent once, followed, stopped, resumed, and finished when a node dies."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray_nodes import RayNodes
from shell import Shell, wait_until

from orchestrator.record.journal import read_events

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def may_mount() -> bool:
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def hidden(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """A folder that only the first node sees."""
    return tmp_path_factory.mktemp("hidden") if may_mount() else None


@pytest.fixture(scope="module")
def two_nodes(hidden: Path | None) -> Iterator[RayNodes]:
    """One cluster for the tests that leave it whole."""
    cluster = RayNodes(hidden=hidden)
    yield cluster
    cluster.close()


@pytest.fixture
def fragile() -> Iterator[RayNodes]:
    """A cluster whose second node may be killed."""
    cluster = RayNodes()
    yield cluster
    cluster.close()


def connect(shell: Shell, cluster: RayNodes) -> Shell:
    shell.environment |= {
        "ORCHESTRATOR_ADDRESS": cluster.address,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(cluster.token),
    }
    return shell


def events(shell: Shell, kind: str) -> list[dict[str, object]]:
    found = [event for folder in shell.place.glob("runs/*/events") for event in read_events(folder) if event["event"] == kind]
    return sorted(found, key=lambda event: float(event["time"]))


def shown_by(cluster: RayNodes) -> str:
    """All that the cluster tells of what was sent to it."""
    from ray.job_submission import JobSubmissionClient

    client = JobSubmissionClient(cluster.address, headers={"Authorization": f"Bearer {cluster.token.read_text()}"})
    return "\n".join(map(str, client.list_jobs()))


def test_a_submitted_run_is_one_run_however_often_it_is_sent(shell: Shell, two_nodes: RayNodes) -> None:
    """It trains on both nodes, its progress is followed to the report, and sending it again starts nothing. Entry point, metadata and
    environment of what was sent do not hold the token.
    """
    connect(shell, two_nodes).write_job()
    first = shell("submit", "job.yaml", "train.workers=2")
    assert first.returncode == 0, first.stdout + first.stderr
    again = shell("submit", "job.yaml", "train.workers=2")
    (run,) = shell.place.glob("runs/*")
    (listed,) = [entry for entry in json.loads(shell("list", "--json").stdout) if entry["root"] == str(shell.place)]
    attempts = [event for event in events(shell, "AttemptStarted") if event["stage"] == "train"]
    shown = shown_by(two_nodes)

    assert "train: epoch 2/2" in first.stdout
    assert "result    test accuracy" in first.stdout
    assert (again.returncode, "before and is done" in again.stderr) == (0, True)
    assert (listed["id"], listed["status"], listed["exit_code"]) == (run.name, "done", 0)
    assert json.loads((run / "plan.json").read_bytes())["cluster"]["nodes"] == 2
    assert [(event["workers"], event["nodes"]) for event in attempts] == [(2, 2)]
    assert "result    test accuracy" in shell("logs", run.name).stdout
    assert "done" in shell("status", run.name).stdout.splitlines()[0]
    assert run.name in shown
    assert two_nodes.token.read_text() not in shown


def test_ctrl_c_only_detaches_and_stop_saves_and_resume_finishes(shell: Shell, two_nodes: RayNodes) -> None:
    """The run goes on without its follower, a stopped one has a checkpoint, and its next start continues there."""
    connect(shell, two_nodes).write_job(epochs=2000)
    follower = shell.start("submit", "job.yaml")
    wait_until(lambda: "train: epoch 3/2000" in follower.log.read_text())
    follower.process.send_signal(signal.SIGINT)
    code, output = follower.wait()
    (run,) = (path.name for path in shell.place.glob("runs/*"))
    epochs = len(events(shell, "EpochFinished"))
    wait_until(lambda: len(events(shell, "EpochFinished")) > epochs)
    stopped = shell("stop", run)

    assert (code, f"detached; {run} goes on" in output) == (130, True)
    assert f"{run} is stopped" in stopped.stdout
    assert list(shell.place.glob("runs/*/checkpoints/*"))
    last = int(str(events(shell, "EpochFinished")[-1]["epoch"]))
    resumed = shell.start("resume", run)
    wait_until(lambda: any(int(str(event["epoch"])) > last for event in events(shell, "EpochFinished")))
    assert int(str(events(shell, "TrainingStarted")[-1]["resumed_from_step"])) > 0
    shell("stop", run)
    assert resumed.wait()[0] == 130


def test_the_run_finishes_when_a_node_dies(shell: Shell, fragile: RayNodes) -> None:
    """A node is killed while its worker trains: the group starts again on the other one, from the checkpoint, and finishes."""
    connect(shell, fragile).write_job(epochs=60)
    follower = shell.start("submit", "job.yaml", "train.workers=2")
    wait_until(lambda: "train: epoch 3/60" in follower.log.read_text())
    fragile.kill_second_node()
    code, output = follower.wait(300)
    attempts = [event for event in events(shell, "AttemptStarted") if event["stage"] == "train"]
    started = events(shell, "TrainingStarted")

    assert code == 0, output
    assert [(event["workers"], event["nodes"]) for event in attempts] == [(2, 2), (2, 1)]
    assert int(str(started[-1]["resumed_from_step"])) > 0
    assert {event["epoch"] for event in events(shell, "EpochFinished")} == set(range(60))
    assert "result    test accuracy" in output


def test_storage_that_nodes_do_not_share_is_named_before_anything_starts(shell: Shell, two_nodes: RayNodes, hidden: Path | None) -> None:
    """The node and the folder are in one line, exit code 6, and nothing is prepared or trained."""
    if hidden is None:
        pytest.skip("hiding a folder from one node takes the right to mount")
    connect(shell, two_nodes).write_job()
    done = shell("submit", "job.yaml", "--root", str(hidden))

    assert done.returncode == 6, done.stdout + done.stderr
    assert f"does not see {hidden}" in done.stdout
    assert "Traceback" not in done.stdout
    assert not (hidden / "data").exists()


def test_a_job_that_fails_on_the_cluster_answers_with_its_own_exit_code(shell: Shell, two_nodes: RayNodes) -> None:
    """What only the cluster can see to be wrong ends the following with the code that a local run would have."""
    connect(shell, two_nodes).write_job()
    done = shell("submit", "job.yaml", "data.source=/no/such/folder")

    assert done.returncode == 2
    assert "/no/such/folder: no such folder" in done.stdout


def test_a_wrong_token_is_one_line(shell: Shell, two_nodes: RayNodes) -> None:
    """Exit code 3, the file of the token is named, and the secret is not printed."""
    connect(shell, two_nodes).write_job()
    wrong = shell.place / "token"
    wrong.write_text("not-the-secret-of-this-cluster")
    shell.environment["RAY_AUTH_TOKEN_PATH"] = str(wrong)
    done = shell("submit", "job.yaml")

    assert done.returncode == 3
    assert f"does not accept the token in {wrong}" in done.stderr
    assert "Traceback" not in done.stderr
    assert "not-the-secret" not in done.stderr
