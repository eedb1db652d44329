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
from functools import partial
from pathlib import Path
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
from orchestrator.training.trainer import Trainer
from orchestrator.training.work import TrainResult

JOB = {
    "name": "small",
    "data": {"source": "/images", "image": {"size": 16}},
    "augment": ["horizontal_flip", {"random_crop": {"padding": 2}}],
    "model": {"name": "resnet8"},
    "evaluate": {"batch": 8},
}
RECIPE = {"batch": 8, "micro_batch": 4, "lr": 0.05, "ema": 0.8, "mixup": 0.4, "cutmix": 1.0, "clip_norm": 1.0, "precision": "fp16"}
"""Two micro-batches a step, for one worker or two; all that has a state, and all that is random."""
SAVE_S = {"step": 1e-9, "epoch": 1e9}
MEETINGS: list[dist.Store] = []
"""Where this process meets the other workers of its group."""


class Forked:
    """A worker group on this machine: one worker is this process, several are children of it."""

    def __init__(self, place: Path, workers: int) -> None:
        self._place, self._workers = place, workers

    def prepare(self, *_: Any) -> Any:
        raise AssertionError("the images are prepared already")

    run_alone = prepare

    def run_group(self, work: GroupWork, *_: Any) -> Any:
        feed = work.make_feed(self._workers)
        if self._workers == 1:
            return work.run_one_worker(work.settings, batches_of(feed))
        meeting = self._place / f"meeting-{os.getpid()}"
        ranks = [_forked(partial(self._work, work, feed, rank, meeting)) for rank in range(self._workers)]
        return _wait_for(ranks)

    def _work(self, work: GroupWork, feed: Feed, rank: int, meeting: Path) -> None:
        MEETINGS.append(dist.FileStore(str(meeting), self._workers))
        dist.init_process_group("gloo", store=MEETINGS[0], rank=rank, world_size=self._workers)
        work.run_one_worker(work.settings, (batch for batch in batches_of(feed) if batch.index % self._workers == rank))
        MEETINGS[0].set(f"leaves-{rank}", "")
        MEETINGS[0].wait([f"leaves-{other}" for other in range(self._workers)])


def _forked(work: Any) -> int:
    child = os.fork()
    if not child:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 -- the parent is told by the exit code
            os.write(2, f"{error!r}\n".encode())
            os._exit(1)
        os._exit(0)
    return child


def _wait_for(ranks: Sequence[int]) -> TrainResult:
    """Until all have ended well; when one does not, the others are killed, and so is this process."""
    left = set(ranks)
    while left:
        ended, status = os.wait()
        left.discard(ended)
        if status:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            os.kill(os.getpid(), signal.SIGKILL)
    return TrainResult(stopped=False, best_epoch=0, best_accuracy=None)


def noting(place: Path, die: int) -> None:
    """Write down what every step takes and gives; die when `die` steps are done."""
    train_step = Trainer.train_step

    def noted(trainer: Trainer, feed: Iterator[Batch]) -> float:
        taken: list[str] = []
        position = trainer.position

        def watched() -> Iterator[Batch]:
            for batch in feed:
                if batch.phase is Phase.TRAIN:
                    taken.extend(row.tobytes().hex() for row in batch.ids)
                yield batch

        loss = train_step(trainer, watched())
        step = {"epoch": position.epoch, "step": position.step, "loss": loss, "ids": taken}
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
    serve(partial(train, Path(sys.argv[1])))


if __name__ == "__main__":
    main()
