"""Runs that are killed or interrupted go on where they stood."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from ray_processes import living_in, title_of, working_in
from shell import Shell, wait_until

from orchestrator.record.journal import read_events

INTRODUCTION = b"ray::RayTrainWorker.init_train_context"
"""Title of the process of a worker that is told its place in the group."""


STUCK_STEP = 4
STUCK = f"""
import time
from pathlib import Path
from torch import nn

class Net(nn.Module):
    def __init__(self, classes, channels):
        super().__init__()
        self.head, self.passes = nn.Linear(channels * 256, classes), 0

    def forward(self, images):
        self.passes += self.training
        if self.passes > {STUCK_STEP} and not Path("is-stuck").exists():
            Path("is-stuck").touch()
            time.sleep(10**6)
        return self.head(images.flatten(1))

def build(num_classes, in_channels):
    return Net(num_classes, in_channels)
"""
"""A network whose fifth step never ends, the first time."""


def does(place: Path, title: bytes) -> bool:
    """Whether one of the processes has this title."""
    return any(title_of(pid).startswith(title) for pid in living_in(place))


def checkpoints(place: Path) -> list[Path]:
    return list(place.glob("runs/*/checkpoints/step-*"))


def named(place: Path, name: str) -> list[dict[str, object]]:
    """The events of that name of the only run, in their order; none before there is a run."""
    return [event for folder in place.glob("runs/*/events") for event in read_events(folder) if event["event"] == name]


def kill_the_only(place: Path, title: bytes) -> int:
    """The number of the process that is killed; looked for until it is there, because a title that is being written reads as none."""
    titled: list[int] = []

    def found() -> bool:
        titled[:] = [pid for pid in living_in(place) if title_of(pid).startswith(title)]
        return len(titled) == 1

    wait_until(found)
    os.kill(titled[0], signal.SIGKILL)
    return titled[0]


@pytest.mark.slow
def test_killed_driver_resumes_from_the_newest_checkpoint(shell: Shell) -> None:
    """kill -9 of the program while Ray trains: the same command continues from a checkpoint, and Ctrl-C names the next command."""
    shell.write_job(images_per_class=60, epochs=2000)
    program = shell.start("run", "job.yaml")
    wait_until(lambda: bool(checkpoints(shell.place)))
    program.kill()
    again = shell.start("run", "job.yaml")
    wait_until(lambda: any(event["resumed_from_step"] for event in named(shell.place, "TrainingStarted")))
    again.process.send_signal(signal.SIGINT)

    code, output = again.wait()
    assert code == 130, output
    assert "orchestrator resume" in output


@pytest.mark.slow
def test_a_killed_process_of_rays_costs_one_attempt(shell: Shell) -> None:
    """kill -9 of the one that divides the feed: the same program goes on from the newest checkpoint and finishes the run. Others that
    Ray Train starts, and that could be lost, are not there: one that leads the workers, one that hands out data, and one that watches
    over lost leaders, which may take another Ray for ours.
    """
    shell.write_job(images_per_class=60, epochs=50)
    program = shell.start("train", "job.yaml")
    wait_until(lambda: bool(checkpoints(shell.place)))
    unwanted = (b"ray::TrainController", b"ray::DatasetManager", b"ray::PlacementGroupCleaner")
    assert not [pid for pid in living_in(shell.place) if title_of(pid).startswith(unwanted)]
    process = kill_the_only(shell.place, b"ray::SplitCoordinator")
    code, output = program.wait(240)

    assert code == 0, output
    started = named(shell.place, "TrainingStarted")
    assert [event["attempt"] for event in named(shell.place, "AttemptFailed")] == [1], output
    assert f"attempt 1 failed, SplitCoordinator (process {process} on " in output
    assert started[0]["resumed_from_step"] == 0
    assert started[-1]["resumed_from_step"] > 0  # type: ignore[operator]
    assert named(shell.place, "TrainingFinished")


@pytest.mark.slow
def test_a_worker_that_is_killed_while_it_starts_leaves_no_cpu_taken(shell: Shell) -> None:
    """kill -9 of the worker before it said anything: the CPUs that were reserved for it are there for the next attempt, also where Ray
    Train forgets them.
    """
    shell.write_job(images_per_class=60)
    program = shell.start("train", "job.yaml")
    wait_until(lambda: does(shell.place, INTRODUCTION))
    wait_until(lambda: not does(shell.place, INTRODUCTION))  # now Ray Train has a group, and the group has not begun
    kill_the_only(shell.place, b"ray::RayTrainWorker")
    code, output = program.wait(240)

    assert code == 0, output
    assert [event["attempt"] for event in named(shell.place, "AttemptFailed")] == [1], output
    assert len(named(shell.place, "TrainingStarted")) == 1  # by the second attempt


@pytest.mark.parametrize(
    ("sent", "where"), [(signal.SIGINT, ["--in-process"]), (signal.SIGTERM, ["--in-process"]), (signal.SIGTERM, [])], ids=str
)
def test_a_stopped_run_saves_a_checkpoint_and_resume_finishes(shell: Shell, sent: signal.Signals, where: list[str]) -> None:
    """Ctrl-C or SIGTERM in the middle of training, on Ray too: exit code 130 and the command that continues and finishes the run."""
    shell.write_job(epochs=15)
    program = shell.start("run", "job.yaml", *where)
    wait_until(lambda: bool(named(shell.place, "TrainingStarted")))
    program.process.send_signal(sent)
    code, output = program.wait()

    assert code == 130, output
    assert "Traceback" not in output
    assert "SIGTERM received" not in output  # by Ray's C++, which ends the program three seconds later
    (run,) = shell.place.glob("runs/*")
    assert f"orchestrator resume {run.name}" in output

    done = shell("resume", run.name, "--in-process")
    assert done.returncode == 0, done.stderr
    started = named(shell.place, "TrainingStarted")
    stopped = named(shell.place, "TrainingStopped")
    assert started[-1]["resumed_from_step"] == stopped[-1]["global_step"]


@pytest.mark.slow
def test_ctrl_c_twice_stops_a_run_that_cannot_end_its_step(shell: Shell) -> None:
    """A step that never ends: the first Ctrl-C waits for it, the second one ends the program at once, with nothing of it left, and the same
    command goes on from the checkpoint.
    """
    shell.write_job(epochs=3)
    (shell.place / "stuck.py").write_text(STUCK)
    job, own = shell.place / "job.yaml", '{entry: "stuck:build"}'
    job.write_text(job.read_text().replace("{name: resnet8}", own).replace("checkpoint_s: 0.5", "checkpoint_s: 1.0e-9"))
    program = shell.start("run", "job.yaml")
    wait_until((shell.place / "is-stuck").exists)
    program.process.send_signal(signal.SIGINT)
    wait_until(lambda: "once more to stop now" in program.log.read_text())
    program.process.send_signal(signal.SIGINT)
    code, output = program.wait(30)

    assert code == 130, output
    assert "Traceback" not in output
    assert "stopped at once by SIGINT" in output
    wait_until(lambda: not list(working_in(shell.place)))
    done = shell("run", "job.yaml", "--in-process")
    assert done.returncode == 0, done.stderr
    assert named(shell.place, "TrainingStarted")[-1]["resumed_from_step"] == STUCK_STEP


@pytest.mark.slow
def test_a_ray_that_does_not_start_is_one_line(shell: Shell) -> None:
    """As on a machine that is too busy: its process is stopped as soon as it is there. Exit code 3 once Ray gives up, after half a minute,
    and nothing of it is left.
    """
    shell.write_job()
    program = shell.start("run", "job.yaml")
    stopped: list[int] = []

    def stop_it() -> bool:
        stopped[:] = [pid for pid in living_in(shell.place) if b"raylet/raylet" in title_of(pid).split(b"\0")[0]]
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        return bool(stopped)

    wait_until(stop_it)
    code, output = program.wait()

    assert code == 3, output
    assert "Ray did not start on this machine" in output
    assert "Traceback" not in output
    wait_until(lambda: not list(working_in(shell.place)))


@pytest.mark.parametrize("times", [1, 2])
def test_a_run_is_stopped_while_ray_starts(shell: Shell, times: int) -> None:
    """SIGTERM at the first sign of the run, once or twice: it ends before its first stage, in good order, and Ray with it."""
    shell.write_job()
    program = shell.start("run", "job.yaml")
    wait_until(lambda: bool(named(shell.place, "RunStarted")))
    for _ in range(times):
        program.process.send_signal(signal.SIGTERM)
    code, output = program.wait()

    assert code == 130, output
    assert "Traceback" not in output
    assert named(shell.place, "RunInterrupted")
    assert not named(shell.place, "StageFinished")
    wait_until(lambda: not list(working_in(shell.place)))


def test_killed_prepare_keeps_finished_units_and_commits_the_same(shell: Shell) -> None:
    """kill -9 while images are prepared: the second run commits the data once, with every image in it."""
    shell.write_job(images_per_class=400)
    program = shell.start("prepare", "job.yaml", "--in-process")
    wait_until(lambda: len(list(shell.place.glob("data/*/units/*.json"))) >= 3)
    program.kill()
    assert not list(shell.place.glob("data/*/manifest.json"))

    done = shell("prepare", "job.yaml", "--in-process")
    assert done.returncode == 0, done.stderr
    (prepared,) = named(shell.place, "DataPrepared")
    assert prepared["rows"] == 1200
    assert named(shell.place, "UnitsReused")


def test_two_programs_do_not_work_on_one_run(shell: Shell) -> None:
    """While one program works on a run, a second one refuses with exit code 6 and names the first."""
    shell.write_job(epochs=2000)
    first = shell.start("run", "job.yaml", "--in-process")
    wait_until(lambda: bool(named(shell.place, "TrainingStarted")))
    second = shell("run", "job.yaml", "--in-process")

    assert second.returncode == 6, second.stderr
    assert str(first.process.pid) in second.stderr


@pytest.mark.slow
def test_a_killed_study_ends_each_trial_once(shell: Shell) -> None:
    """kill -9 of the program in the middle of a study: the same command goes on, and trials that had ended keep every byte."""
    shell.write_job(images_per_class=60, epochs=3)
    with (shell.place / "job.yaml").open("a") as file:
        file.write("tune: {space: {train.lr: {loguniform: [0.001, 0.5]}}, trials: 12, scheduler: none}\n")

    def ended() -> list[Path]:
        journals = shell.place.glob("runs/*/trials/*/events/run.jsonl")  # a trial has a folder before it has a journal
        return [journal.parent.parent for journal in journals if '"TrialEnded"' in journal.read_text()]

    program = shell.start("tune", "job.yaml")
    wait_until(lambda: len(ended()) >= 2)
    program.kill()
    kept = {path: path.stat().st_mtime_ns for trial in ended() for path in trial.glob("model/*")}
    code, output = shell.start("tune", "job.yaml").wait(200)

    assert code == 0, output
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert len(ended()) == 12
    (finished,) = named(shell.place, "StudyFinished")
    assert [trial["number"] for trial in finished["trials"]] == list(range(12))  # type: ignore[attr-defined]
    for trial in ended():
        events = [event["event"] for event in read_events(trial / "events")]
        assert events.count("TrialEnded") == 1
        assert events.count("EpochFinished") == 3


@pytest.mark.slow
def test_ctrl_c_in_a_study_saves_and_resume_finishes(shell: Shell) -> None:
    """Exit code 130 with the command that continues, which then finishes the study and not the run of the job."""
    shell.write_job(images_per_class=60, epochs=40)
    with (shell.place / "job.yaml").open("a") as file:
        file.write("tune: {space: {train.lr: {loguniform: [0.001, 0.5]}}, trials: 3}\n")
    program = shell.start("tune", "job.yaml")
    wait_until(lambda: bool(named(shell.place, "TrialReported")))
    program.process.send_signal(signal.SIGINT)
    code, output = program.wait()

    assert code == 130, output
    assert "Traceback" not in output
    (run,) = shell.place.glob("runs/*")
    assert f"orchestrator resume {run.name}" in output
    code, output = shell.start("resume", run.name).wait(200)
    assert code == 0, output
    assert (run / "tuned.yaml").is_file()
    assert not (run / "model").exists()


def test_another_shell_watches_and_stops_a_run(shell: Shell) -> None:
    """list and status name a running run and its process, logs -f follows it to its end, stop saves it, and resume is offered."""
    shell.write_job(epochs=2000)
    program = shell.start("run", "job.yaml", "--in-process")
    wait_until(lambda: len(named(shell.place, "EpochFinished")) >= 2)
    (run,) = shell.place.glob("runs/*")
    (listed,) = json.loads(shell("list", "--json").stdout)
    following = shell.start("logs", "-f", run.name)
    assert (listed["run"], listed["status"], listed["stage"], listed["pid"]) == (run.name, "running", "train", program.process.pid)
    assert f"process {program.process.pid}" in shell("status", run.name).stdout

    stopped = shell("stop", run.name)
    assert stopped.returncode == 0, stopped.stderr
    assert f"orchestrator resume {run.name}" in stopped.stdout
    assert program.wait()[0] == 130
    code, lines = following.wait()
    assert code == 0
    assert "train: epoch 2/2000, loss" in lines
    assert run.name in shell("list").stdout
    assert shell("stop", run.name).stdout == f"nobody works on {run.name}\n"


def test_a_lost_run_is_told_from_a_running_one(shell: Shell) -> None:
    """After kill -9 the record still says running; list and status say lost, and how to go on."""
    shell.write_job(epochs=2000)
    program = shell.start("run", "job.yaml", "--in-process")
    wait_until(lambda: bool(named(shell.place, "TrainingStarted")))
    program.kill()
    (listed,) = json.loads(shell("list", "--json").stdout)

    assert listed["status"] == "lost"
    assert f"orchestrator resume {listed['run']}" in shell("status", listed["run"]).stdout
