"""The verdict: what limits a run, in one sentence, with the knob to turn.

The thresholds are shares of time below which turning the knob could not be felt:

* prepare is named when it took more than half of the run and was not reused: no other stage can win as much;
* waiting for images when it takes 10 % or more of the time in epochs: a faster feed would save that share;
* copying images to the device, and synchronising the workers, at the same 10 %;
* validation at 25 %: below that it costs less than one more epoch in four;
* checkpoints at 10 %;
* otherwise computing, when it takes at least half of the time in epochs;
* otherwise nothing is named, because most of the time is in none of the measured parts.

Where there are three epochs or more the first is left out: it holds the start of the workers and of the feed.
When several parts pass their threshold the largest is named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from statistics import median

from orchestrator.reports.values import EpochReport, RunReport

PREPARE_SHARE = 0.5
STUDY_SHARE = 0.5
WAIT_SHARE = 0.10
TRANSFER_SHARE = 0.10
SYNC_SHARE = 0.10
VALIDATE_SHARE = 0.25
CHECKPOINT_SHARE = 0.10
COMPUTE_SHARE = 0.5
EPOCHS_TO_LEAVE_OUT_FIRST = 3
SYNC_KNOB = "raise train.batch, so that gradients are exchanged less often, or set fewer train.workers; the slowest one sets the pace"
NOT_MEASURED = "not measured: nothing has run long enough yet"


@dataclass(frozen=True)
class Shares:
    """Where the time of training went; together at most 1."""

    wait: float
    transfer: float
    compute: float
    sync: float
    validate: float
    checkpoint: float


def name_limit(report: RunReport) -> str:
    """What limits this run and the knob to turn."""
    if _prepare_dominates(report):
        return _prepare_sentence(report)
    if (share := _study_share(report)) > STUDY_SHARE:
        return (
            f"The study took {share:.0%} of this run; more CPUs or GPUs let more trials run at once, and fewer tune.trials or train.epochs "
            "shorten it. What limits a trial is in its own report."
        )
    shares = epoch_shares(report.epochs)
    if shares is not None:
        return _training_sentence(shares, report.training.device)
    return _running_sentence(report)


def epoch_shares(epochs: Sequence[EpochReport]) -> Shares | None:
    """`None` while no epoch was measured."""
    measured = _without_first([epoch for epoch in epochs if epoch.wait_s is not None and epoch.compute_s is not None])
    parts = {field.name: sum(getattr(epoch, f"{field.name}_s") or 0.0 for epoch in measured) for field in fields(Shares)}
    total = max(sum(epoch.seconds or 0.0 for epoch in measured), sum(parts.values()))
    return Shares(**{name: seconds / total for name, seconds in parts.items()}) if total > 0 else None


def _without_first(epochs: Sequence[EpochReport]) -> Sequence[EpochReport]:
    """The epochs that speak for the others."""
    return epochs[1:] if len(epochs) >= EPOCHS_TO_LEAVE_OUT_FIRST else epochs


def _prepare_dominates(report: RunReport) -> bool:
    prepare = report.stage("prepare").seconds
    total = sum(stage.seconds for stage in report.stages)
    reused = report.data is not None and report.data.reused
    return not reused and total > 0 and prepare / total > PREPARE_SHARE


def _study_share(report: RunReport) -> float:
    total = sum(stage.seconds for stage in report.stages)
    tune = sum(stage.seconds for stage in report.stages if stage.name == "tune")
    return tune / total if total else 0.0


def _prepare_sentence(report: RunReport) -> str:
    share = report.stage("prepare").seconds / sum(stage.seconds for stage in report.stages)
    return (
        f"Preparing the images took {share:.0%} of this run; runs on the same images reuse them, "
        "and more CPUs or a smaller data.image.size make the first one faster."
    )


def _training_sentence(shares: Shares, device: str) -> str:
    compute = (shares.compute, COMPUTE_SHARE, "computing", _compute_knob(device))
    avoidable = [
        (shares.wait, WAIT_SHARE, "waiting for images", "set data.image.store: raw, or give the run more CPUs per training worker"),
        (shares.transfer, TRANSFER_SHARE, "copying images to the device", "a smaller data.image.size means fewer bytes for each"),
        (shares.sync, SYNC_SHARE, "synchronising the workers", SYNC_KNOB),
        (shares.validate, VALIDATE_SHARE, "validation", "lower data.split.validation"),
        (shares.checkpoint, CHECKPOINT_SHARE, "saving checkpoints", "raise train.checkpoint_s, or keep the run folder on faster storage"),
    ]
    named = max([part for part in avoidable if part[0] >= part[1]], default=compute)
    if named[0] < named[1]:
        return (
            f"Nothing measured limits training: computing took {shares.compute:.0%} of the time in epochs "
            f"and waiting for images {shares.wait:.0%}."
        )
    share, _, part, knob = named
    return f"{part.capitalize()} took {share:.0%} of the time in epochs; {knob}."


def _compute_knob(device: str) -> str:
    if device == "cuda":
        return "more GPUs, a smaller model.name or a smaller data.image.size make it faster"
    return "a GPU, more CPUs, a smaller model.name or a smaller data.image.size make it faster"


def _running_sentence(report: RunReport) -> str:
    waits = [point.wait_share for point in report.points if point.wait_share is not None]
    if not waits:
        return NOT_MEASURED
    return f"No epoch has been measured yet; so far {median(waits):.0%} of the time in steps went into waiting for images."
