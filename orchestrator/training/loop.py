"""The training of one worker from beginning to end.

Intended behaviour; any difference is a bug:
1. All workers take the same steps in the same order and hold the same parameters after each.
2. After an epoch: statistics are averaged, weights compared, validation images counted, the checkpoint written, and the model when
   it is the one to keep. A start that finds the checkpoint alone writes that model from it.
3. Killed anywhere and started again, the worker continues at the newest checkpoint and computes the same bits on the same machine.
4. A wish to stop, or to be started again elsewhere, ends training after the current step, or batch of validation images, with a
   checkpoint of the last step.
5. A loss that is not finite on any worker ends training, or leaves out the step on all of them; it never reaches a checkpoint.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator

import torch

from orchestrator.errors import TrainingError
from orchestrator.training.batch import Batch
from orchestrator.training.checkpoint import CheckpointStore, Position, check_finite
from orchestrator.training.distributed import all_reduce_max, check_same_weights
from orchestrator.training.eager import eager
from orchestrator.training.export import holds_model_of, write_model
from orchestrator.training.finite import SKIPS_MAX, find_broken
from orchestrator.training.models import count_parameters
from orchestrator.training.pulse import Pulse
from orchestrator.training.timing import PARTS, Sums, shares
from orchestrator.training.trainer import Trainer
from orchestrator.training.weights import StartWeights, start_from
from orchestrator.training.work import Control, Record, TrainResult, TrainWork, Wish

PROGRESS_EVERY_S = 1.0


def train_worker(
    work: TrainWork,
    feed: Iterator[Batch],
    control: Control,
    record: Record,
    start: Callable[[], StartWeights] | None = None,
    pulse: Pulse | None = None,
) -> TrainResult:
    """Train until the last epoch, or until somebody asks to stop.

    Args:
        work: What to do.
        feed: This worker's micro-batches, from the position of the newest checkpoint on: for each epoch the training
            micro-batches of its steps, then its share of the validation batches.
        control: Asked by every worker after every step.
        record: Writes events; called by rank 0 alone.
        start: Reads the weights to start from; asked when there is no checkpoint. Random ones when left out.
        pulse: Is told what this worker is doing, where somebody watches.

    Raises:
        TrainingError: The loss is not finite, the workers diverged, or the feed ended too early.
        FeedMovedError: The feed stands elsewhere than the checkpoint.
        StorageError: A checkpoint or the model could not be written.
    """
    with eager(compiles=work.job.may_compile):
        return _Loop(work, feed, control, record, start, pulse or Pulse()).run()


class _Loop:
    def __init__(
        self,
        work: TrainWork,
        feed: Iterator[Batch],
        control: Control,
        record: Record,
        start: Callable[[], StartWeights] | None,
        pulse: Pulse,
    ) -> None:
        self.work, self.feed, self.control, self.start = work, feed, control, start
        self.trainer = Trainer(work, pulse)
        self.store = CheckpointStore(work.checkpoints)
        self.leads = self.trainer.rank == 0
        self.record: Record = record if self.leads else lambda *_, **__: None
        self.watch = self.trainer.watch
        self.saved_at = self.shown_at = time.perf_counter()
        self.first_shown = False
        self.shown = (0, dict.fromkeys(PARTS, 0.0))
        self.losses: list[float] = []
        self.skips_in_a_row = 0

    def run(self) -> TrainResult:
        plan, trainer, started = self.work.plan, self.trainer, time.perf_counter()
        self._resume()
        while trainer.position.epoch < plan.epochs:
            if wish := self._train_epoch():
                position, why = trainer.position, wish.name.lower()
                self.record("TrainingStopped", epoch=position.epoch, step=position.step, global_step=position.global_step, wish=why)
                return TrainResult(ended_by=wish, best_epoch=trainer.best_epoch, best_accuracy=trainer.best_accuracy)
        self.record(
            "TrainingFinished",
            epochs=plan.epochs,
            best_epoch=trainer.best_epoch,
            best_validation_accuracy=trainer.best_accuracy,
            seconds=round(time.perf_counter() - started, 1),
        )
        return TrainResult(ended_by=Wish.GO_ON, best_epoch=trainer.best_epoch, best_accuracy=trainer.best_accuracy)

    def _resume(self) -> None:
        checkpoint = self.store.newest()
        for name, reason in self.store.damaged:
            self.record("CheckpointRejected", name=name, reason=reason)
        if checkpoint is not None:
            self.trainer.load_state_dict(checkpoint.state, checkpoint.position)
            self._find_model()
            if changes := checkpoint.changes(self.trainer.conditions()):
                self.record("ResumedInexactly", name=checkpoint.name, changes=changes)
        elif self.start is not None:
            weights = self.start()
            replaced = start_from(self.trainer.model, weights, len(self.work.classes))
            if self.trainer.average is not None:
                self.trainer.average.restart()
            self.record("WeightsLoaded", source=weights.source, sha256=weights.sha256, new_head=replaced)
        self.record(
            "TrainingStarted",
            parameters=count_parameters(self.trainer.model),
            workers=self.trainer.workers,
            device=str(self.trainer.device),
            threads=torch.get_num_threads(),
            precision=self.trainer.recipe.precision.name,
            epochs=self.work.plan.epochs,
            resumed_from_step=self.trainer.position.global_step,
        )

    def _train_epoch(self) -> Wish:
        """Train the rest of an epoch; the wish that ended it before its end."""
        plan, trainer = self.work.plan, self.trainer
        self.watch = trainer.start_watch()
        self.shown_at, self.shown = time.perf_counter(), (trainer.position.step, self.watch.seconds())
        first = trainer.position.step
        while trainer.position.step < plan.steps_per_epoch:
            loss = trainer.train_step(self.feed)
            stop, save = self._agree(loss)
            self._count(loss)
            self._show()
            if stop or (save and trainer.position.step < plan.steps_per_epoch):
                self._save(trainer.position)
            if stop:
                return stop
        return self._end_epoch(images=(plan.steps_per_epoch - first) * plan.micro_batches * plan.micro_batch_rows)

    def _agree(self, loss: float) -> tuple[Wish, bool]:
        """What all workers do next, and whether they save; rank 0 knows the clock, each knows its own loss and what is wanted of it."""
        due = self.leads and time.perf_counter() - self.saved_at >= self.work.job.train.checkpoint_s
        wish = self.control.wish()
        fatal = self.trainer.guard is None and not math.isfinite(loss)
        with self.watch.measure("sync"):
            stop, save, broken = all_reduce_max([int(wish), int(due), int(fatal)], self.trainer.device)
        if broken:
            raise self._diverged(str(find_broken(loss)), "lower train.lr, or leave such steps out with train.on_nonfinite=skip")
        return Wish(stop), bool(save)

    def _count(self, loss: float) -> None:
        """Add up what is shown, and see to it that not everything is left out."""
        position, broken = self.trainer.position, self.trainer.broken
        if self.trainer.recipe.precision.overflows:
            raise self._diverged("the gradients overflow fp16 however the loss is scaled", "train.precision=bf16 or fp32 has room for them")
        if broken is None:
            if self.leads:  # the others show nothing
                self.losses.append(loss)
            self.skips_in_a_row = 0
            return
        self.skips_in_a_row += 1
        self.record("StepSkipped", epoch=position.epoch, step=position.step, global_step=position.global_step, reason=str(broken))
        if self.skips_in_a_row > SKIPS_MAX:
            raise self._diverged(f"{broken}, in {self.skips_in_a_row} steps in a row, the last one", "lower train.lr")

    def _diverged(self, what: str, next_step: str) -> TrainingError:
        position, newest = self.trainer.position, self.store.position().global_step
        kept = f"the checkpoint of step {newest} is from before" if newest else "no checkpoint was saved before"
        return TrainingError(f"{what} after step {position.step} of epoch {position.epoch + 1}", f"{next_step}; {kept}")

    def _end_epoch(self, images: int) -> Wish:
        """Validate, keep and save; the wish that came before all validation images were seen."""
        trainer, epoch = self.trainer, self.trainer.position.epoch
        own = trainer.own_state()
        train_loss, train_accuracy = trainer.end_epoch()
        check_finite(trainer.model.state_dict())
        digest = check_same_weights(trainer.model)
        if trainer.average is not None:
            check_same_weights(trainer.average.model)
        self.record("WeightsVerified", epoch=epoch, sha256=digest, workers=trainer.workers)
        sums, wish = self._validate()
        if wish:
            trainer.set_own_state(own)  # as after the last step, from where all this is done again
            self._save(trainer.position)
            return wish
        loss, accuracy = self._checked(*trainer.means_across(sums))
        keep = self._is_to_keep(epoch, accuracy)
        trainer.begin_epoch(epoch + 1)
        self._save(trainer.position)
        seconds = self.watch.elapsed
        self.record(
            "EpochFinished",
            epoch=epoch,
            train_loss=train_loss,
            train_accuracy=train_accuracy,
            validation_loss=loss,
            validation_accuracy=accuracy,
            seconds=round(seconds, 3),
            images=images,
            images_per_s=round(images / seconds, 1),
            **self.watch.parts(),
        )
        if keep:
            self._write_model()
        return Wish.GO_ON

    def _validate(self) -> tuple[Sums, Wish]:
        """Loss and hits of this worker's validation images, or of some of them and the wish that came meanwhile."""
        sums, wish = Sums(), 0
        with self.trainer.pulse.validating(self.trainer.position.epoch):
            for number in range(self._validation_batches()):
                with self.watch.measure("validate"):
                    self.trainer.pulse.note("sync")  # a peer may still be at its last batch
                    (wish,) = all_reduce_max([int(self.control.wish())], self.trainer.device)
                if wish:
                    break
                self.trainer.validate_batch(self.feed, number, sums)
        return sums, Wish(wish)

    def _checked(self, loss: float | None, accuracy: float | None) -> tuple[float | None, float | None]:
        """A validation loss that is not finite ends training, or is left out, as that of a step."""
        if loss is None or math.isfinite(loss):
            return loss, accuracy
        if self.trainer.guard is None:
            raise self._diverged("the validation loss is not finite", "lower train.lr, or go on without it with train.on_nonfinite=skip")
        return None, accuracy

    def _validation_batches(self) -> int:
        """Batches of this worker, those of no image included."""
        batches = -(-self.work.validation_rows // self.work.job.evaluate.batch)
        return -(-batches // self.trainer.workers)

    def _is_to_keep(self, epoch: int, accuracy: float | None) -> bool:
        """Whether this epoch is the best one so far, or the last one counts."""
        trainer = self.trainer
        latest = self.work.job.train.select == "last" or accuracy is None
        better = accuracy is not None and (trainer.best_accuracy is None or accuracy > trainer.best_accuracy)
        if latest or better:
            trainer.best_epoch, trainer.best_accuracy = epoch, accuracy
        return latest or better

    def _write_model(self) -> None:
        work, trainer = self.work, self.trainer
        if self.leads:
            write_model(work.model_folder, trainer.evaluated, work.job.model, work.classes, work.preprocess, trainer.best_epoch)

    def _find_model(self) -> None:
        """See to it that the model of the best epoch is there: write it where these are its weights; else forget that epoch, unless it is.

        A kill between a checkpoint and its model leaves the one without the other, and so does a checkpoint that was passed over.
        """
        trainer, epochs = self.trainer, self.trainer.position.epoch
        fresh = trainer.position.step == 0 and trainer.best_epoch == epochs - 1
        if epochs == 0 or (not fresh and holds_model_of(self.work.model_folder, trainer.best_epoch)):
            return
        if not fresh:
            counted = min(epochs, self.work.plan.epochs - 1)  # without epochs to come the last one is the best that there is
            self.record("BestModelLost", epoch=trainer.best_epoch, counted_from=counted)
            trainer.best_epoch, trainer.best_accuracy = counted, None
        if trainer.best_epoch == epochs - 1:
            self._write_model()

    def _save(self, position: Position) -> None:
        """All workers give their part; rank 0 writes."""
        begin = time.perf_counter()
        with self.watch.measure("checkpoint"):
            state = self.trainer.state_dict()
            name = self.store.save(position, state) if self.leads else ""
        self.saved_at = time.perf_counter()
        self.record("CheckpointSaved", step=position.global_step, epoch=position.epoch, name=name, seconds=round(self.saved_at - begin, 3))

    def _show(self) -> None:
        """The first step at once, then at most one event a second."""
        now, plan, position = time.perf_counter(), self.work.plan, self.trainer.position
        seconds = now - self.shown_at
        if not self.leads or (self.first_shown and seconds < PROGRESS_EVERY_S):
            return
        self.first_shown = True
        step_before, parts_before = self.shown
        steps = position.step - step_before
        parts = self.watch.seconds()
        self.record(
            "Progress",
            epoch=position.epoch,
            step=position.step,
            steps_per_epoch=plan.steps_per_epoch,
            global_step=position.global_step,
            total_steps=plan.total_steps,
            loss=sum(self.losses) / len(self.losses) if self.losses else None,
            lr=self.trainer.rate,
            images_per_s=round(steps * plan.micro_batches * plan.micro_batch_rows / seconds, 1),
            eta_s=round((plan.total_steps - position.global_step) * seconds / max(1, steps), 1),
            **shares(parts_before, parts, seconds),
        )
        self.shown_at, self.shown = now, (position.step, parts)
        self.losses.clear()
