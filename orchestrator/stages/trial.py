"""One trial of a study: a run inside a run, trained in a thread and reported to Ray Tune epoch by epoch."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ray import tune

from orchestrator.dataset.manifest import Manifest
from orchestrator.durable import write_atomically, write_json
from orchestrator.errors import Interrupted, OrchestratorError
from orchestrator.plan.batch import global_batch
from orchestrator.plan.make import DataFacts, make_plan
from orchestrator.plan.tune import with_trial_workers
from orchestrator.plan.values import Plan, TunePlan
from orchestrator.record.folder import RunFolder
from orchestrator.record.journal import EventFollower, Journal, read_events
from orchestrator.spec.job import JobSpec, resolved
from orchestrator.spec.tune import with_parameters
from orchestrator.spec.yaml import dump_yaml
from orchestrator.stages.engine import Engine
from orchestrator.stages.in_process import InProcessEngine
from orchestrator.stages.on_ray import RayEngine
from orchestrator.stages.prepare import ORIGINALS_READ
from orchestrator.stages.stopping import StopRequest
from orchestrator.stages.train import train_model

LOOK_EVERY_S = 0.05
ENDED = "TrialEnded"
"""The event in a trial's own journal after which it is never trained again."""


@dataclass(frozen=True)
class StudyWork:
    """What every trial of a study shares."""

    job: JobSpec
    plan: Plan
    manifest: Manifest
    data: Path
    folder: RunFolder
    """The run that the trials belong to."""
    version: str

    @property
    def tune(self) -> TunePlan:
        assert self.plan.tune is not None  # noqa: S101 -- a study is made from a plan that tunes
        return self.plan.tune

    def trial_plan(self, job: JobSpec) -> Plan:
        """The plan of one trial on its share of the cluster."""
        workers, shape = self.tune.workers, self.tune.shape
        facts = DataFacts(self.plan.fingerprint, self.plan.classes, self.plan.images)
        batch = global_batch(job.train, self.plan.images["train"])
        one = job.model_copy(update={"train": with_trial_workers(job.train, batch, workers)})
        if workers > 1:
            return make_plan(one, facts, shape, job.name)
        plan = make_plan(one, facts, self.plan.cluster, job.name)  # reads its shards itself: every CPU of its share is for computing
        return replace(plan, train=replace(plan.train, worker_cpus=float(shape.cpus), threads=max(1, shape.cpus)))


class Trial(tune.Trainable):  # type: ignore[misc]  # Ray ships no types
    """Each step is one epoch; the process is reused by the next trial.

    What happened stands in the trial's folder alone. A trial that ended is told again from there without training, and one that
    was cut off continues at its newest checkpoint: a study that is started again gives Ray Tune the same results in the same order.
    """

    def setup(self, config: dict[str, Any], work: StudyWork) -> None:
        self._work = work
        self._training: _Training | None = None
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._end()
        self._begin(new_config)
        return True

    def cleanup(self) -> None:
        self._end()

    def step(self) -> dict[str, Any]:
        """The next epoch: `epoch` (from 1) and `value`, the metric of the study; `done` with the last one."""
        while True:
            alive = self._training is not None and self._training.alive
            self._queue += [event for event in self._follower.new_events() if event["event"] == "EpochFinished"]
            while self._queue and self._queue[0]["epoch"] < self._epoch:
                self._queue.pop(0)
            if self._queue:
                return self._report(self._queue.pop(0))
            if not alive:
                return {"epoch": self._epoch, "done": True, "value": self._value}
            if self._work.folder.stop_request.exists() and self._training is not None:
                self._training.stop.ask()
            time.sleep(LOOK_EVERY_S)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: training keeps its own checkpoints in the trial's folder."""

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Nothing: training finds its own newest checkpoint."""

    def _begin(self, config: dict[str, Any]) -> None:
        number, parameters = config["number"], config["parameters"]
        folder = self._work.folder.trial(number)
        self._follower, self._queue = EventFollower(folder.events, from_start=True), list[dict[str, Any]]()
        self._epoch, self._value = 0, worst_value(self._work.job)
        self._epochs = with_parameters(self._work.job, parameters).train.epochs
        if not has_ended(folder):
            self._training = _Training(self._work, folder, parameters)

    def _report(self, event: dict[str, Any]) -> dict[str, Any]:
        assert self._work.job.tune is not None  # noqa: S101 -- trials belong to jobs that tune
        self._epoch = event["epoch"] + 1
        value = event[f"validation_{self._work.job.tune.metric}"]
        self._value = worst_value(self._work.job) if value is None else value  # it was not finite
        last = self._epoch == self._epochs
        if last and self._training is not None:
            self._training.join()
        return {"epoch": self._epoch, "done": last, "value": self._value}

    def _end(self) -> None:
        """Wait for the training to end; what still trains was cut short by the scheduler, unless the user stopped the study."""
        if self._training is not None:
            if self._training.alive:
                self._training.cut = not self._work.folder.stop_request.exists()
                self._training.stop.ask()
            self._training.join()
            self._training.stop.forget()
            self._training = None


def worst_value(job: JobSpec) -> float:
    """Stands for a trial that has no epoch to show: Ray Tune wants a number."""
    assert job.tune is not None  # noqa: S101 -- trials belong to jobs that tune
    return -math.inf if job.tune.metric == "accuracy" else math.inf


def has_ended(folder: RunFolder) -> bool:
    return any(event["event"] == ENDED for event in read_events(folder.events))


class _Training:
    """The training of one trial, in a thread, and its own record."""

    def __init__(self, work: StudyWork, folder: RunFolder, parameters: dict[str, Any]) -> None:
        self._work, self._folder, self._parameters = work, folder, parameters
        self.stop = StopRequest(folder.stop_request)
        self.stop.forget()
        self.cut = False
        self._thread = threading.Thread(target=self._run, name=folder.name, daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        folder, originals = self._folder, ORIGINALS_READ["images"]
        job = with_parameters(self._work.job, self._parameters)
        journal = Journal(folder.events, "run", "run")
        begun = "RunContinued" if journal.path.exists() else "RunStarted"
        journal.record(begun, run=folder.name, job=job.name, version=self._work.version, command="", parameters=self._parameters)
        started = time.perf_counter()
        state, failure = self._course(lambda: self._train(job))
        if state == "interrupted":
            journal.record("RunInterrupted")
            return
        seconds = round(time.perf_counter() - started, 1)
        read = ORIGINALS_READ["images"] - originals
        journal.record(ENDED, state=state, original_images_read=read, error=failure)
        if state == "failed":
            journal.record("RunFailed", error=failure, next_step="")
        else:
            journal.record("RunFinished", seconds=seconds)

    def _course(self, train: Callable[[], None]) -> tuple[str, str]:
        """How it ended: finished, stopped early, interrupted or failed; and the error."""
        try:
            train()
        except Interrupted:
            return ("stopped" if self.cut else "interrupted"), ""
        except OrchestratorError as error:
            return "failed", error.message
        except Exception as error:  # noqa: BLE001 -- one broken trial must not end the study; the record names it
            return "failed", f"{type(error).__name__}: {error}"
        return "finished", ""

    def _train(self, job: JobSpec) -> None:
        work, folder = self._work, self._folder
        plan = work.trial_plan(job)
        text = dump_yaml(resolved(job)).encode()
        write_atomically(folder.job, text)
        write_atomically(folder.resolved_job, text)
        write_json(folder.plan, plan.to_json())
        engine: Engine = InProcessEngine() if work.tune.workers == 1 else RayEngine()
        journal = Journal(folder.events, "train-driver", "train")
        journal.record("StageStarted")
        started = time.perf_counter()
        try:
            train_model(job, plan, work.manifest, work.data, folder, engine, journal, self.stop)
        except Interrupted:
            if not self.cut:
                raise
            journal.record("StageFinished", seconds=round(time.perf_counter() - started, 1))
            raise
        journal.record("StageFinished", seconds=round(time.perf_counter() - started, 1))
