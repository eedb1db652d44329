"""Worker groups that follow the cluster: they grow when nodes come, shrink when nodes are lost, and leave nodes that are taken away."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from ray_nodes import RayNodes
from safetensors.numpy import load_file
from shell import Program, Shell, wait_until

from orchestrator.record.journal import Event, read_events

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NETWORK = """\
import os, pathlib, time
import torch

class Slow(torch.nn.Module):
    def __init__(self, num_classes, in_channels, place):
        super().__init__()
        self.place = pathlib.Path(place)
        layers = torch.nn.Conv2d(in_channels, 8, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
        self.layers = torch.nn.Sequential(*layers, torch.nn.Linear(8, num_classes))

    def forward(self, images):
        if self.training and not (self.place / "hurry").exists():
            (self.place / f"{os.getpid()}.pid").touch()
            time.sleep(0.8)
        return self.layers(images)

def build(num_classes, in_channels, place):
    return Slow(num_classes, in_channels, place)
"""
EPOCHS = 30
Weights = dict[str, npt.NDArray[np.float32]]
DEADLINE_S = 300
STEADY = ("train.select=last", "train.grow_after_s=1", "train.checkpoint_s=600")


class Training:
    """A run whose steps take long until it is told to hurry."""

    def __init__(self, shell: Shell, cluster: RayNodes | None = None) -> None:
        self.shell = shell
        if cluster is not None:
            shell.environment |= {
                "ORCHESTRATOR_ADDRESS": cluster.address,
                "RAY_AUTH_MODE": "token",
                "RAY_AUTH_TOKEN_PATH": str(cluster.token),
            }
        shell.write_job(epochs=EPOCHS)
        (shell.place / "my_networks.py").write_text(NETWORK)

    def words(self, *overrides: str) -> list[str]:
        network = f"model={{entry: 'my_networks:build', kwargs: {{place: '{self.shell.place}'}}}}"
        return ["job.yaml", network, "train.precision=fp32", *STEADY, *overrides]

    def events(self, kind: str) -> list[Event]:
        """Of training, in the order of time."""
        found = [event for folder in self.shell.place.glob("runs/*/events") for event in read_events(folder)]
        wanted = [event for event in found if (event["event"], event["stage"]) == (kind, "train")]
        return sorted(wanted, key=lambda event: float(event["time"]))

    def wait_for_start(self, number: int) -> Event:
        """The event of a start of the group, once it has trained some steps."""
        wait_until(lambda: len(self.events("TrainingStarted")) >= number, DEADLINE_S)
        started = self.events("TrainingStarted")[number - 1]
        wait_until(lambda: any(event["time"] > started["time"] for event in self.events("Progress")), DEADLINE_S)
        return started

    def finish(self, program: Program) -> str:
        """Train the rest at full speed; what the program has printed."""
        (self.shell.place / "hurry").touch()
        code, output = program.wait(DEADLINE_S)
        assert code == 0, output
        return output

    def weights(self) -> Weights:
        (found,) = self.shell.place.glob("runs/*/model/weights.safetensors")
        return load_file(found)

    def check_every_step_counted_once(self, undisturbed: Weights) -> None:
        """The weights are those of one undisturbed process, but for the order in which gradients are added up."""
        found = self.weights()
        for name, values in undisturbed.items():
            np.testing.assert_allclose(found[name], values, atol=1e-4, rtol=0, err_msg=name)
        assert {event["epoch"] for event in self.events("EpochFinished")} == set(range(EPOCHS))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    """The weights after the same training in one process."""
    shell = Shell(tmp_path_factory.mktemp("undisturbed"))
    training = Training(shell)
    (shell.place / "hurry").touch()
    done = shell("train", *training.words("train.workers=[1, 2]"), "--in-process")
    assert done.returncode == 0, done.stderr
    return training.weights()


@pytest.fixture
def one_node() -> Iterator[RayNodes]:
    cluster = RayNodes(count=1)
    yield cluster
    cluster.close()


@pytest.fixture
def head_without_cpus() -> Iterator[RayNodes]:
    cluster = RayNodes(count=2, head_cpus=0)
    yield cluster
    cluster.close()


def test_a_group_grows_with_the_cluster_and_shrinks_with_it(shell: Shell, one_node: RayNodes, undisturbed: Weights) -> None:
    """From one node to two and back: no step is lost by growing, and the end is that of a run of one process."""
    training = Training(shell, one_node)
    program = shell.start("submit", *training.words("train.workers=[1, 2]"))
    training.wait_for_start(1)
    one_node.add_node()
    second = training.wait_for_start(2)
    one_node.kill_second_node()
    training.wait_for_start(3)
    output = training.finish(program)

    (stopped,) = training.events("TrainingStopped")
    assert (stopped["wish"], second["resumed_from_step"]) == ("regroup", stopped["global_step"])
    assert [event["workers"] for event in training.events("AttemptStarted")] == [1, 2, 1]
    assert [(event["from_workers"], event["to_workers"]) for event in training.events("GroupResized")] == [(1, 2), (2, 1)]
    assert len(training.events("AttemptFailed")) == 1
    assert "train: from 1 to 2 workers, the cluster has 2 nodes with 4 CPUs" in output
    training.check_every_step_counted_once(undisturbed)


def test_a_node_that_is_taken_away_is_left_in_time(shell: Shell, one_node: RayNodes, undisturbed: Weights) -> None:
    """The cluster is told: the group saves after the step and goes on elsewhere; nothing is lost."""
    node = one_node.add_node()
    training = Training(shell, one_node)
    program = shell.start("submit", *training.words("train.workers=[1, 2]"))
    training.wait_for_start(1)
    asked = time.time()
    one_node.drain(node, deadline_s=60)
    second = training.wait_for_start(2)
    training.finish(program)

    (preempted,), (stopped,) = training.events("GroupPreempted"), training.events("TrainingStopped")
    assert (preempted["by"], preempted["deadline"] > asked) == ("drain", True)
    assert stopped["time"] < preempted["deadline"]
    assert (stopped["wish"], second["resumed_from_step"]) == ("leave", stopped["global_step"])
    assert [event["workers"] for event in training.events("AttemptStarted")] == [2, 1]
    assert training.events("AttemptFailed") == []
    training.check_every_step_counted_once(undisturbed)


def test_without_nodes_a_group_waits_for_some(shell: Shell, head_without_cpus: RayNodes) -> None:
    """The only node that works is lost: what is missing is told, and training goes on where another node joins."""
    training = Training(shell, head_without_cpus)
    program = shell.start("submit", *training.words("train.workers=[1, 2]"))
    training.wait_for_start(1)
    head_without_cpus.kill_second_node()
    wait_until(lambda: bool(training.events("NodesRanShort")), DEADLINE_S)
    head_without_cpus.add_node()
    training.wait_for_start(2)
    output = training.finish(program)

    assert "too little to go on; a node of 2 CPUs is needed, waiting up to 10 min 00 s" in output
    assert [event["workers"] for event in training.events("AttemptStarted")] == [1, 1]


def test_a_worker_that_is_terminated_saves_first(shell: Shell) -> None:
    """SIGTERM to one worker process of two: both save after the step they are at, and the group starts again from there."""
    training = Training(shell)
    program = shell.start("train", *training.words("train.workers=2"))
    training.wait_for_start(1)
    process = max(int(path.stem) for path in shell.place.glob("*.pid"))
    os.kill(process, signal.SIGTERM)
    second = training.wait_for_start(2)
    output = training.finish(program)

    (preempted,), (stopped,) = training.events("GroupPreempted"), training.events("TrainingStopped")
    assert (preempted["by"], preempted["deadline"]) == ("SIGTERM", None)
    assert (stopped["wish"], second["resumed_from_step"]) == ("leave", stopped["global_step"])
    assert training.events("AttemptFailed") == []
    assert "has to go (SIGTERM), saving" in output
    assert Path(f"/proc/{process}").exists() is False
