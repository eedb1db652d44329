"""Events of training folded into curves in which every step and every epoch counts once.

A resumed run goes back to a checkpoint and does some steps again. What the journal holds of the way that was
abandoned is left out from the moment the new start says where it begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.record.journal import Event
from orchestrator.reports.fields import epoch_number, number, text, whole
from orchestrator.reports.values import EpochReport, ProgressPoint, TrainingReport


@dataclass(frozen=True)
class Curves:
    """Ordered by step and by epoch."""

    epochs: tuple[EpochReport, ...]
    points: tuple[ProgressPoint, ...]
    skipped: frozenset[int]
    """Global steps that were left out."""


def fold_curves(events: Sequence[Event], steps_per_epoch: int | None) -> Curves:
    """`steps_per_epoch` is the plan's; without it, it is taken from the events."""
    epochs: dict[int, EpochReport] = {}
    points: dict[int, ProgressPoint] = {}
    skipped: set[int] = set()
    for event in events:
        if event["event"] == "TrainingStarted":
            resumed_from = whole(event, "resumed_from_step") or 0
            points = {step: point for step, point in points.items() if step <= resumed_from}
            skipped = {step for step in skipped if step <= resumed_from}
            epochs = {epoch: value for epoch, value in epochs.items() if steps_per_epoch is None or epoch * steps_per_epoch <= resumed_from}
        elif event["event"] == "Progress" and (step := whole(event, "global_step")) is not None:
            points[step] = _progress_point(event, step)
            steps_per_epoch = whole(event, "steps_per_epoch") or steps_per_epoch
        elif event["event"] == "StepSkipped" and (step := whole(event, "global_step")) is not None:
            skipped.add(step)
        elif event["event"] == "EpochFinished" and (epoch := epoch_number(event)) is not None:
            epochs[epoch] = _epoch_report(event, epoch)
    return Curves(tuple(epochs[epoch] for epoch in sorted(epochs)), tuple(points[step] for step in sorted(points)), frozenset(skipped))


def _epoch_report(event: Event, epoch: int) -> EpochReport:
    return EpochReport(
        number=epoch,
        train_loss=number(event, "train_loss"),
        train_accuracy=number(event, "train_accuracy"),
        validation_loss=number(event, "validation_loss"),
        validation_accuracy=number(event, "validation_accuracy"),
        seconds=number(event, "seconds"),
        images_per_s=number(event, "images_per_s"),
        wait_s=number(event, "wait_s"),
        transfer_s=number(event, "transfer_s"),
        compute_s=number(event, "compute_s"),
        sync_s=number(event, "sync_s"),
        validate_s=number(event, "validate_s"),
        checkpoint_s=number(event, "checkpoint_s"),
    )


def _progress_point(event: Event, step: int) -> ProgressPoint:
    return ProgressPoint(
        global_step=step,
        epoch=epoch_number(event) or 1,
        loss=number(event, "loss"),
        lr=number(event, "lr"),
        images_per_s=number(event, "images_per_s"),
        wait_share=number(event, "wait_share"),
        sync_share=number(event, "sync_share"),
        eta_s=number(event, "eta_s"),
    )


def fold_training(events: Sequence[Event], curves: Curves, planned_epochs: int | None) -> TrainingReport:
    """Facts besides the curves; the best epoch is the one with the highest validation accuracy whose model may be there."""
    started: Event = _last(events, "TrainingStarted") or {}
    progress: Event = _last(events, "Progress") or {}
    lost: Event = _last(events, "BestModelLost") or {}
    since = whole(lost, "counted_from") or 0
    validated = [epoch for epoch in curves.epochs if epoch.validation_accuracy is not None and epoch.number > since]
    best = max(validated, key=lambda epoch: (epoch.validation_accuracy or 0.0, -epoch.number), default=None)
    return TrainingReport(
        parameters=whole(started, "parameters"),
        workers=whole(started, "workers"),
        device=text(started, "device"),
        planned_epochs=planned_epochs,
        total_steps=whole(progress, "total_steps"),
        attempts=sum(event["event"] == "AttemptStarted" and event.get("stage") == "train" for event in events),
        best_epoch=best.number if best else None,
        best_validation_accuracy=best.validation_accuracy if best else None,
        checkpoints=sum(event["event"] == "CheckpointSaved" for event in events),
        weights_verified=len({event.get("epoch") for event in events if event["event"] == "WeightsVerified"}),
        skipped_steps=len(curves.skipped),
        hung_workers=sum(event["event"] == "WorkerHung" and event.get("stage") == "train" for event in events),
        rejected_checkpoints=tuple(
            (text(event, "name"), text(event, "reason")) for event in events if event["event"] == "CheckpointRejected"
        ),
    )


def _last(events: Sequence[Event], kind: str) -> Event | None:
    return next((event for event in reversed(events) if event["event"] == kind), None)
