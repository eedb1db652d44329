"""The state of one training worker and what happens in one global step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from orchestrator.errors import TrainingError
from orchestrator.training.batch import Batch, Phase
from orchestrator.training.chance import Place, random_state, set_random_state
from orchestrator.training.checkpoint import START, Position
from orchestrator.training.distributed import (
    all_reduce_max,
    average_buffers,
    gather,
    has_idle_parameters,
    mean_statistics,
    own_buffers,
    set_buffers,
    sum_across,
    world,
    wrap,
)
from orchestrator.training.ema import WeightAverage
from orchestrator.training.finite import Broken, StepGuard
from orchestrator.training.freeze import freeze_layers
from orchestrator.training.models import build_model
from orchestrator.training.normalise import Normalize
from orchestrator.training.optim import build_optimizer, load_optimizer, set_learning_rate
from orchestrator.training.pulse import Pulse
from orchestrator.training.recipe import Recipe
from orchestrator.training.schedule import learning_rate
from orchestrator.training.timing import Stopwatch, Sums, clock_of
from orchestrator.training.transfer import Sent, Transfer
from orchestrator.training.work import TrainWork


class FeedMovedError(ConnectionError):
    """The feed and the checkpoint stand at different steps: another process saved between the reading of the two.

    A group whose program was killed lives for a moment beside the next one, which therefore is to be started once more.
    """


class Trainer:
    """Model, optimiser and position of one worker.

    Every worker seeds torch alike and builds the same weights; from then on they receive the same averaged gradients.
    """

    def __init__(self, work: TrainWork, pulse: Pulse) -> None:
        torch.manual_seed(work.job.train.seed)
        self.work, self.pulse = work, pulse
        self.rank, self.workers = world()
        self.device = torch.device(work.plan.device)
        self.model = build_model(work.job.model, **work.sizes).to(self.device)
        self.still = freeze_layers(self.model, work.job.model, len(work.classes))
        self.recipe = Recipe(work, self.device)
        if self.recipe.channels_last:
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing from torch's stubs
        self.normalize = Normalize(work.mean, work.std, channels_last=self.recipe.channels_last).to(self.device)
        self.optimizer = build_optimizer(self.model, work.job.train)
        self.position = START
        self.best_epoch = 0
        self.best_accuracy: float | None = None
        self.sums = Sums()
        self.average = WeightAverage(self.model, work.job.train.ema) if work.job.train.ema else None
        skips = work.job.train.on_nonfinite == "skip"
        self.guard = StepGuard(self.model, scales=self.recipe.precision.scaler.is_enabled()) if skips else None
        self.broken: Broken | None = None
        self.rate = 0.0
        self.transfer = Transfer(self.device)
        self.ahead: Sent | None = None
        idle = False
        if self.workers > 1 and work.job.model.is_foreign:  # whose passes may depend on who makes them: one answer for all workers
            idle = bool(*all_reduce_max([int(has_idle_parameters(self.model, work.sizes, self.device))], self.device))
        if work.job.train.compile:
            self.model.compile()
        self.watch = self.start_watch()
        self.wrapped = wrap(self.model, self.device, lambda: self.watch.switch("sync"), some_idle=idle)
        if self.average is not None:
            self.average.restart()  # only now do all workers have the weights of rank 0, whatever they were drawn from

    @property
    def micro_batches(self) -> int:
        """Micro-batches of a global step that this worker takes."""
        return self.work.plan.micro_batches // self.workers

    def start_watch(self) -> Stopwatch:
        """Measure from here on."""
        self.watch = Stopwatch(clock_of(self.device), self.pulse.note)
        return self.watch

    def train_step(self, feed: Iterator[Batch]) -> float:
        """One optimiser step; where `guard` finds it broken it moves the position on and nothing else, and `broken` says why.

        Where copies overlap with computing, the first micro-batch of the next step of the epoch is asked for before this one ends.

        Returns:
            The mean loss of this worker's images; with it the device is done with the step. It is waited for only here.

        Raises:
            TrainingError: The feed ended too early.
            FeedMovedError: The feed stands elsewhere than the checkpoint.
        """
        with self.pulse.stepping(self.position.epoch, self.position.step):
            return self._train_step(feed)

    def _train_step(self, feed: Iterator[Batch]) -> float:
        if self.guard is not None:
            self.guard.remember()
        self.wrapped.train()
        for module in self.still:
            module.eval()
        plan = self.work.plan
        self.rate = learning_rate(self.position.global_step, plan.total_steps, self.work.job.train)
        set_learning_rate(self.optimizer, self.rate)
        found: list[tuple[Tensor, Tensor]] = []
        rows: list[int] = []
        for number in range(self.micro_batches):
            images, labels = self._receive(feed)
            with self.watch.measure("compute"):
                place = Place(self.position.epoch, self.position.step, self.rank + number * self.workers)
                found.append(self._accumulate(images, labels, place, last=number == self.micro_batches - 1))
            rows.append(len(labels))
        step = self.position.step + 1
        self.position = Position(self.position.epoch, step, self.position.epoch * plan.steps_per_epoch + step)
        if self.transfer.overlaps and step < plan.steps_per_epoch:
            self.ahead = self._send(feed)  # now: some ways to take a step wait for the device
        with self.watch.measure("compute"):
            if self.workers > 1 and self.transfer.overlaps:
                self.pulse.note("sync")  # the exchange of a GPU goes on: what waits for it from here on may wait for other workers
            results = torch.stack([torch.stack(pair) for pair in found])
            self._take_step(results[:, 0])
            values: list[list[float]] = results.tolist()
        for (mean, correct), count in zip(values, rows, strict=True):
            if self.broken is None:
                self.sums.add(mean * count, correct, count)
        return sum(value[0] for value in values) / self.micro_batches

    def _receive(self, feed: Iterator[Batch]) -> tuple[Tensor, Tensor]:
        """The next micro-batch of the current step, on the device."""
        sent, self.ahead = self.ahead or self._send(feed), None
        with self.watch.measure("transfer"):
            return self.transfer.receive(sent)

    def _send(self, feed: Iterator[Batch]) -> Sent:
        """Ask for the next micro-batch, of the step at which the position stands, to be copied."""
        batch = self._next(feed, Phase.TRAIN, self.position.step)
        with self.watch.measure("transfer"):
            return self.transfer.send(batch)

    def _take_step(self, losses: Tensor) -> None:
        """Change the weights, unless that would break them."""
        if self.guard is not None:
            with self.watch.measure("sync"):
                self.broken = self.guard.find(losses)
            if self.broken is not None:
                self.guard.restore()
                self.optimizer.zero_grad(set_to_none=True)
                return
        self.recipe.precision.step(self.optimizer, self.work.job.train.clip_norm)
        if self.average is not None:
            self.average.update(self.position.global_step)

    @property
    def evaluated(self) -> nn.Module:
        """The model that is validated and written: the average of the weights where there is one."""
        return self.model if self.average is None else self.average.model

    def _accumulate(self, images: Tensor, labels: Tensor, place: Place, *, last: bool) -> tuple[Tensor, Tensor]:
        """Add the gradient of one micro-batch; workers exchange gradients with the last one alone.

        Returns:
            Mean loss and number of hits, float64, on the device: reading them here would wait for it.
        """
        apart = self.wrapped.no_sync() if isinstance(self.wrapped, DistributedDataParallel) and not last else nullcontext()
        with apart:
            loss, hits = self.recipe.forward(self.wrapped, self.normalize(images), labels, place)
            self.recipe.precision.backward(loss / self.micro_batches)
        self.watch.switch("compute")  # it was `sync` since the last gradient, where there are other workers
        return loss.detach().double(), hits.double()

    def _next(self, feed: Iterator[Batch], phase: Phase, step: int) -> Batch:
        with self.watch.measure("wait"):
            batch = next(feed, None)
        due = (phase, self.position.epoch)
        if batch is None:
            raise TrainingError(
                f"the images ended before {phase} step {step} of epoch {self.position.epoch}", "report this with the run folder"
            )
        if (batch.phase, batch.epoch) != due or (phase is Phase.TRAIN and batch.step != step):
            got = f"{batch.phase} step {batch.step} of epoch {batch.epoch}"
            raise FeedMovedError(f"{got} came where {phase} step {step} of epoch {self.position.epoch} was due")
        return batch

    @torch.no_grad()
    def validate_batch(self, feed: Iterator[Batch], number: int, sums: Sums) -> None:
        """Add up loss and hits of this worker's next batch of validation images, which may hold none."""
        batch = self._next(feed, Phase.VALIDATION, number)
        with self.watch.measure("validate"):
            if not len(batch.labels):
                return
            self.evaluated.eval()
            images, labels = self.transfer.receive(self.transfer.send(batch))
            with self.recipe.precision.autocast():
                logits = self.evaluated(self.normalize(images))
            logits = logits.float()
            loss = functional.cross_entropy(logits, labels, reduction="sum")
            sums.add(float(loss), int((logits.argmax(1) == labels).sum()), len(labels))

    def end_epoch(self) -> tuple[float | None, float | None]:
        """Average the statistics of the workers.

        Returns:
            Mean loss and accuracy over the training images of the epoch; absent when every step was left out.
        """
        average_buffers(self.model, self.still)
        if self.average is not None:
            average_buffers(self.average.model, self.average.counterparts(self.still))
        return self.means_across(self.sums)

    def means_across(self, sums: Sums) -> tuple[float | None, float | None]:
        """Loss and accuracy over the images of all workers; absent when there were none."""
        loss, correct, rows = sum_across(sums.values(), self.device)
        return (loss / rows, correct / rows) if rows else (None, None)

    def begin_epoch(self, epoch: int) -> None:
        self.position = Position(epoch, 0, epoch * self.work.plan.steps_per_epoch)
        self.sums = Sums()

    def own_state(self) -> dict[str, Any]:
        """What the other workers need not have alike: batch statistics, those of the average, and random numbers."""
        own = {"buffers": own_buffers(self.model), "rng": random_state(self.device)}
        return own if self.average is None else own | {"average_buffers": own_buffers(self.average.model)}

    def set_own_state(self, own: dict[str, Any]) -> None:
        set_buffers(self.model, own["buffers"])
        if self.average is not None:
            set_buffers(self.average.model, own["average_buffers"])
        set_random_state(own["rng"], self.device)

    def conditions(self) -> dict[str, Any]:
        """What the bits of a step depend on, besides the job and the images."""
        return {
            "workers": self.workers,
            "images in a micro-batch": self.work.plan.micro_batch_rows,
            "precision": self.recipe.precision.name,
            "device": self.device.type,
            "threads": torch.get_num_threads(),
        }

    def state_dict(self) -> dict[str, Any]:
        """Everything that a later start needs; called by all workers together."""
        own = self.own_state() | {"sums": self.sums.values()}
        return {
            "model": self.model.state_dict(),
            "average": None if self.average is None else self.average.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.recipe.precision.scaler.state_dict(),
            "ranks": gather(own),
            "conditions": self.conditions(),
            "best_epoch": self.best_epoch,
            "best_accuracy": math.nan if self.best_accuracy is None else self.best_accuracy,
        }

    def load_state_dict(self, state: dict[str, Any], position: Position) -> None:
        """Continue where `state_dict` was taken; with another number of workers all take the mean of the statistics."""
        ranks = state["ranks"]
        same = len(ranks) == self.workers
        own = ranks[self.rank] if same else ranks[0] | mean_statistics(ranks)
        self.model.load_state_dict(state["model"])
        if self.average is not None:
            self.average.model.load_state_dict(state["average"])
        load_optimizer(self.optimizer, state["optimizer"])
        if state["scaler"]:  # what was not scaled so far begins with the scale of a new run
            self.recipe.precision.scaler.load_state_dict(state["scaler"])
        everyone = [sum(values) for values in zip(*(rank["sums"] for rank in ranks), strict=True)]
        self.sums = Sums(*(own["sums"] if same else everyone if self.rank == 0 else (0.0, 0.0, 0.0)))
        self.set_own_state(own)
        self.best_epoch = state["best_epoch"]
        self.best_accuracy = None if math.isnan(state["best_accuracy"]) else state["best_accuracy"]
        self.position = position
