"""A fork server that trains a small network on prepared data, as a run does it but without Ray.

Words: `workers=2` (1 when left out), `epochs=3`, `save=step` or `save=epoch`, `die=17`: kill -9 of a worker when it has done that
many steps, whereupon its group is killed as well. What every worker took for every step goes to `steps-<rank>.jsonl`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from ctypes import CDLL
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist
from fork_server import serve

from orchestrator.dataset.manifest import read_manifest
from orchestrator.launch.run import readable_images
from orchestrator.plan.make import DataFacts, make_plan
from orchestrator.plan.values import ClusterShape
from orchestrator.record.folder import RunFolder
from orchestrator.record.journal import Journal
from orchestrator.spec.job import JobSpec
from orchestrator.stages.engine import GroupWork
from orchestrator.stages.feed import Feed
from orchestrator.stages.in_process import batches_of
from orchestrator.stages.stopping import StopRequest
from orchestrator.stages.train import train_model
from orchestrator.training.batch import Batch, Phase
from orchestrator.training.pulse import Pulse
from orchestrator.training.trainer import Trainer

JOB = {
    "name": "small",
    "data": {"source": "/images", "image": {"size": 16}},
    "augment": ["horizontal_flip", {"random_crop": {"padding": 2}}],
    "model": {"entry": "tiny_network:build"},
    "evaluate": {"batch": 8},
}
RECIPE = {"batch": 8, "micro_batch": 4, "lr": 0.05, "ema": 0.8, "mixup": 0.4, "cutmix": 1.0, "clip_norm": 1.0, "precision": "fp16"}
"""Two micro-batches a step, for one worker or two; all that has a state, and all that is random."""
SAVE_S = {"step": 1e-9, "epoch": 1e9}
TRAIN_STEP = Trainer.train_step
PR_SET_PDEATHSIG = 1
"""Lets the kernel kill this process when its parent ends."""
MEETINGS: list[dist.Store] = []
"""Where this process meets the other workers of its group."""


class Forked:
    """A worker group on this machine: rank 0 is this process, the others are children of it."""

    def __init__(self, place: Path, workers: int) -> None:
        self._place, self._workers = place, workers

    def prepare(self, *_: Any) -> Any:
        raise AssertionError("the images are prepared already")

    run_alone = prepare

    def run_group(self, work: GroupWork, *_: Any) -> Any:
        feed = work.make_feed(self._workers)
        if self._workers == 1:
            return work.run_one_worker(work.settings, batches_of(feed), Pulse())
        meeting, rank = self._place / f"meeting-{os.getpid()}", 0
        for other in range(1, self._workers):
            if not os.fork():
                CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
                rank = other
                break
        try:
            result = self._work(work, feed, rank, meeting)
        except BaseException as error:  # noqa: BLE001 -- another worker is lost, and Ray would kill those that are left
            os.write(2, f"{error!r}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)
        if rank:
            os._exit(0)
        return result

    def _work(self, work: GroupWork, feed: Feed, rank: int, meeting: Path) -> Any:
        MEETINGS.append(dist.FileStore(str(meeting), self._workers))
        dist.init_process_group("gloo", store=MEETINGS[0], rank=rank, world_size=self._workers)
        own = (batch for batch in batches_of(feed) if batch.index % self._workers == rank)
        result = work.run_one_worker(work.settings, own, Pulse())
        MEETINGS[0].set(f"leaves-{rank}", "")
        MEETINGS[0].wait([f"leaves-{other}" for other in range(self._workers)])
        return result


def noting(place: Path, die: int) -> None:
    """Write down what every step takes and gives; die when `die` steps are done."""

    def noted(trainer: Trainer, feed: Iterator[Batch]) -> float:
        taken: list[str] = []
        position = trainer.position

        def watched() -> Iterator[Batch]:
            for batch in feed:
                if batch.phase is Phase.TRAIN:
                    taken.extend(row.tobytes().hex() for row in batch.ids)
                yield batch

        loss = TRAIN_STEP(trainer, watched())
        step = {"epoch": position.epoch, "step": position.step, "workers": trainer.workers, "loss": loss, "ids": taken}
        with (place / f"steps-{trainer.rank}.jsonl").open("a") as file:
            file.write(json.dumps(step) + "\n")
        if trainer.position.global_step == die and die % trainer.workers == trainer.rank:
            os.kill(os.getpid(), signal.SIGKILL)
        return loss

    Trainer.train_step = noted  # type: ignore[method-assign]


def train(data: Path, place: Path, words: Sequence[str]) -> None:
    """The stage train of a run."""
    asked = {"workers": "1", "epochs": "3", "save": "step", "die": "0"} | dict(word.split("=") for word in words)
    workers, epochs = int(asked["workers"]), int(asked["epochs"])
    manifest = read_manifest(data)
    recipe = RECIPE | {"epochs": epochs, "workers": workers, "checkpoint_s": SAVE_S[asked["save"]]}
    job = JobSpec.model_validate(JOB | {"train": recipe})
    facts = DataFacts(manifest.fingerprint, manifest.classes, readable_images(manifest))
    plan = make_plan(job, facts, ClusterShape(cpus=3, gpus=0), "small")
    folder = RunFolder(place)
    noting(place, int(asked["die"]))
    journal = Journal(folder.events, "train-driver", "train")
    train_model(job, plan, manifest, data, folder, Forked(place, workers), journal, StopRequest(folder.stop_request))


def main() -> None:
    torch.set_num_threads(1)
    work = partial(train, Path(sys.argv[1]))
    with TemporaryDirectory() as place:
        work(Path(place), ["epochs=1"])  # loads what is imported late
    serve(work)


if __name__ == "__main__":
    main()
