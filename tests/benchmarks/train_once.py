"""One training of ours, started as a user starts it; what its journal says is what is measured."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from start import say

from orchestrator.durable import read_json
from orchestrator.launch.run import RunRequest, run_job
from orchestrator.record.folder import Root, RunFolder
from orchestrator.record.journal import Event, read_events
from orchestrator.spec.load import load_job
from orchestrator.stages.heartbeat import heartbeat_file

PROGRAM = (sys.executable, "-m", "orchestrator.cli.main")
WARM_STEPS = 3
"""First steps of an epoch that do not count."""
STEP_WITHIN_S = 300.0


@dataclass(frozen=True)
class Trained:
    """What came of it."""

    folder: RunFolder
    """Stays until the next training below the same root."""
    steps: int
    """That were timed, in the middle of epochs: validation and checkpoints at their ends do not count."""
    step_s: float
    """Mean of those."""
    wait_share: float
    """Of the time of the epochs that were timed, in which the worker waited for images."""
    first_step_s: float
    """From the command until the first step was done."""
    save_s: float
    """Of one checkpoint, the slowest."""
    save_bytes: int
    workers: int
    threads: int
    device: str
    seconds: float
    """From the command to its end."""


@dataclass(frozen=True)
class Evaluated:
    """What came of a run from images to metrics."""

    accuracy: float
    """On the images that are evaluated at the end."""
    seconds: float
    """From the command to its end."""
    stages: dict[str, float]
    """Seconds of each stage."""


def prepare(job: Path, root: Root) -> None:
    """So that no training has to."""
    _run("prepare", job, root)


def train_once(
    job: Path, root: Root, changes: Sequence[str] = (), *, feed: str = "prepared", epochs: range = range(10**6), here: bool = False
) -> Trained:
    """Train in a run of its own; the one before is removed.

    Args:
        job: Its images are prepared.
        root: Holds them.
        changes: Of the job, as on the command line.
        feed: `prepared` or `synthetic`.
        epochs: Those whose steps are timed.
        here: By this process, on the Ray that it has started, instead of by a program of its own.
    """
    shutil.rmtree(root.runs, ignore_errors=True)
    began, started = time.time(), time.perf_counter()
    if here:
        loaded = load_job(job, changes)
        run_job(RunRequest(loaded, root, "train", False, "train", lambda _: nullcontext(), say, synthetic=feed == "synthetic"))
    else:
        _run("train", job, root, *changes, "--feed", feed)
    seconds = time.perf_counter() - started
    (path,) = root.runs.iterdir()
    folder = RunFolder(path)
    events = read_events(folder.events)
    begun, saved, ended = (named(events, name) for name in ("TrainingStarted", "CheckpointSaved", "EpochFinished"))
    steps, spent = steady(events, epochs)
    counted = [event for event in ended if event["epoch"] in epochs]
    return Trained(
        folder=folder,
        steps=steps,
        step_s=spent / steps,
        wait_share=sum(event["wait_s"] for event in counted) / sum(event["seconds"] for event in counted),
        first_step_s=named(events, "Progress")[0]["time"] - began,
        save_s=max(event["seconds"] for event in saved),
        save_bytes=sum(file.stat().st_size for file in (folder.checkpoints / saved[-1]["name"]).glob("*")),
        workers=begun[-1]["workers"],
        threads=begun[-1]["threads"],
        device=begun[-1]["device"],
        seconds=seconds,
    )


def restart_times(job: Path, root: Root, changes: Sequence[str], kills: int) -> list[float]:
    """Seconds from the death of a worker by SIGKILL to the next step that is reported, again and again in one training.

    Args:
        job: Its images are prepared.
        root: Holds them; runs below it are removed.
        changes: Of the job: it has to train on for long enough.
        kills: At most three, after which a run gives up.
    """
    shutil.rmtree(root.runs, ignore_errors=True)
    command = [*PROGRAM, "train", str(job), "--root", str(root.path), *changes]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as program:
        try:
            return [_restart_time(root, number) for number in range(1, kills + 1)]
        finally:
            program.send_signal(signal.SIGINT)


def _restart_time(root: Root, number: int) -> float:
    _steps_after(root, number, 0.0)
    (path,) = root.runs.iterdir()
    known = [heartbeat_file(folder, rank=1) for folder in RunFolder(path).attempts.glob("workers-*")]
    victim = max((file for file in known if file.exists()), key=lambda file: file.stat().st_mtime)
    killed = time.time()
    os.kill(json.loads(victim.read_bytes())["pid"], signal.SIGKILL)
    return _steps_after(root, number + 1, killed) - killed


def _steps_after(root: Root, attempt: int, moment: float) -> float:
    """When the first step after a moment was reported, of that start of the worker group.

    Raises:
        TimeoutError: None was, for minutes.
    """
    deadline = time.monotonic() + STEP_WITHIN_S
    while time.monotonic() < deadline:
        events = [event for path in root.runs.glob("*") for event in read_events(RunFolder(path).events)]
        started = [event["time"] for event in named(events, "AttemptStarted") if event["stage"] == "train"]
        if len(started) >= attempt:
            since = max(moment, started[attempt - 1])
            shown = [event["time"] for event in named(events, "Progress") if event["time"] > since]
            if shown:
                return float(min(shown))
        time.sleep(0.05)
    raise TimeoutError(f"no step in {STEP_WITHIN_S:g} s")


def run_once(job: Path, root: Root) -> Evaluated:
    """Everything that the job asks for, in a run of its own; the one before is removed."""
    shutil.rmtree(root.runs, ignore_errors=True)
    started = time.perf_counter()
    _run("run", job, root)
    seconds = time.perf_counter() - started
    (path,) = root.runs.iterdir()
    folder = RunFolder(path)
    finished = named(read_events(folder.events), "StageFinished")
    return Evaluated(read_json(folder.metrics)["accuracy"], seconds, {event["stage"]: event["seconds"] for event in finished})


def steady(events: Sequence[Event], epochs: range) -> tuple[int, float]:
    """Steps, and the seconds that they took: of each epoch from the first progress after its first steps to its last progress.

    Raises:
        ValueError: Training was over too soon.
    """
    steps, seconds = 0, 0.0
    shown = [event for event in named(events, "Progress") if event["epoch"] in epochs and event["step"] >= WARM_STEPS]
    for _, group in groupby(shown, key=lambda event: event["epoch"]):
        of_epoch = list(group)
        steps += of_epoch[-1]["step"] - of_epoch[0]["step"]
        seconds += of_epoch[-1]["time"] - of_epoch[0]["time"]
    if not steps:
        raise ValueError("the epochs are too short: fewer than two reports of progress; let there be more steps")
    return steps, seconds


def named(events: Sequence[Event], name: str) -> list[Event]:
    return [event for event in events if event["event"] == name]


def _run(verb: str, job: Path, root: Root, *arguments: str) -> None:
    command = [*PROGRAM, verb, str(job), "--root", str(root.path), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
