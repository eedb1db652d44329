"""Events as lines for people: those worth keeping, and those that say where a stage stands."""

from __future__ import annotations

from orchestrator.record.journal import Event
from orchestrator.reports.fields import epoch_number, number, text, visible, whole
from orchestrator.reports.fold import SYNTHETIC
from orchestrator.reports.study import parameters_of
from orchestrator.units import format_count, format_duration

NOTABLE = 0.05
"""Share of the time from which on synchronising the workers is shown."""


class Told:
    """What earlier events told that later lines repeat."""

    def __init__(self) -> None:
        self.synthetic = False
        """Images are one batch over and over: what is found of accuracy means nothing."""
        self.validation_accuracy: float | None = None
        self.epochs: int | None = None
        self.results: dict[str, str] = {}

    def learn(self, event: Event) -> None:
        kind = event["event"]
        if kind in ("RunStarted", "RunContinued"):
            self.synthetic = text(event, "feed") == SYNTHETIC
        elif kind == "EpochFinished":
            self.validation_accuracy = self.accuracy(event, "validation_accuracy")
        elif kind == "TrainingStarted":
            self.epochs = whole(event, "epochs") or self.epochs
        elif kind == "Progress":
            total, per_epoch = whole(event, "total_steps"), whole(event, "steps_per_epoch")
            self.epochs = total // per_epoch if total and per_epoch else self.epochs
        elif result := _result(event, self):
            self.results[text(event, "stage")] = result

    def accuracy(self, event: Event, name: str) -> float | None:
        """One that means something."""
        return None if self.synthetic else number(event, name)


def _result(event: Event, told: Told) -> str:
    """What came of a stage, for the line that says that it is done."""
    accuracy = told.accuracy(event, "accuracy" if event["event"] == "ModelEvaluated" else "best_validation_accuracy")
    if event["event"] == "DataPrepared":
        reused = "already prepared" if event.get("reused") else ""
        return _joined(reused, format_count(whole(event, "rows") or 0, "image"), _rejects(event))
    if event["event"] == "TrainingFinished":
        return _joined(_percent("best validation accuracy", accuracy))
    if event["event"] == "StudyFinished":
        return f"best trial {whole(event, 'best')}: {_parameters(event)}"
    if event["event"] == "ModelEvaluated" and text(event, "stage") != "tune":
        return _joined(_percent(f"{text(event, 'split')} accuracy", accuracy), f"{whole(event, 'rows') or 0:,} images")
    return ""


def lasting_line(event: Event, told: Told) -> str:
    """The line of an event worth keeping; empty for the others."""
    stage, kind = visible(text(event, "stage")), event["event"]
    if kind == "StageStarted":
        return f"{stage}: started"
    if kind == "StageSkipped":
        return f"{stage}: skipped, {visible(text(event, 'reason'))}"
    if kind == "StageFinished":
        return f"{stage}: " + _joined(f"done in {format_duration(number(event, 'seconds') or 0.0)}", told.results.get(stage, ""))
    if kind == "EpochFinished":
        return f"{stage}: {_epoch_result(event, told)}"
    if kind in ("UnitsTakenOver", "TrialStarted"):
        return f"{stage}: {_what_begins(event)}"
    return _fault(event, stage)


def _what_begins(event: Event) -> str:
    if event["event"] == "UnitsTakenOver":
        return f"{format_count(whole(event, 'images') or 0, 'image')} taken over from earlier data"
    return f"trial {whole(event, 'number')} of {whole(event, 'trials')} started, {_parameters(event)}"


def _fault(event: Event, stage: str) -> str:
    attempt = whole(event, "attempt") or 1
    if event["event"] == "AttemptFailed":
        return f"{stage}: attempt {attempt} failed, {visible(text(event, 'error'))}"
    if event["event"] == "AttemptStarted" and attempt > 1:
        return f"{stage}: attempt {attempt} with {format_count(whole(event, 'workers') or 0, 'worker')}"
    what = _fault_of_training(event) or _change_of_course(event) or _change_of_group(event)
    return f"{stage}: {what}" if what else ""


def _fault_of_training(event: Event) -> str:
    if event["event"] == "CheckpointRejected":
        return f"checkpoint {visible(text(event, 'name'))} not used, {visible(text(event, 'reason'))}"
    if event["event"] == "StepSkipped":
        return f"step {whole(event, 'step')} of epoch {epoch_number(event)} left out, {visible(text(event, 'reason'))}"
    if event["event"] == "WorkerHung":
        place = _joined(visible(text(event, "doing")), visible(text(event, "at")))
        seconds = format_duration(number(event, "seconds") or 0.0)
        return f"rank {whole(event, 'rank')} hung for {seconds} in {place}; stacks in attempts/{visible(text(event, 'stacks'))}"
    return ""


def _change_of_course(event: Event) -> str:
    if event["event"] == "ResumedInexactly":
        changes = ", ".join(visible(str(change)) for change in event.get("changes") or ())
        return f"goes on from {visible(text(event, 'name'))}, in the same order but not to the same bits: {changes}"
    if event["event"] == "BestModelLost":
        since = (whole(event, "counted_from") or 0) + 1
        return f"the model of epoch {epoch_number(event)} is gone; the best one from epoch {since} on is kept"
    if event["event"] == "EpochsRaised":
        return f"{whole(event, 'before')} epochs became {whole(event, 'after')}; the learning rate follows the new total"
    return ""


def _change_of_group(event: Event) -> str:
    if event["event"] == "GroupResized":
        after = format_count(whole(event, "to_workers") or 0, "worker")
        return f"from {whole(event, 'from_workers')} to {after}, {visible(text(event, 'why'))}"
    if event["event"] == "GroupPreempted":
        return f"worker {whole(event, 'rank')} on {visible(text(event, 'node'))} has to go ({visible(text(event, 'by'))}), saving"
    if event["event"] == "NodesRanShort":
        return f"{visible(text(event, 'missing'))}, waiting up to {format_duration(number(event, 'wait_s') or 0.0)}"
    return ""


def _epoch_result(event: Event, told: Told) -> str:
    return _joined(
        _epoch(event, told),
        _decimal("loss", number(event, "train_loss")),
        _percent("accuracy", told.accuracy(event, "train_accuracy")),
        _percent("validation accuracy", told.accuracy(event, "validation_accuracy")),
        _speed(event),
        format_duration(number(event, "seconds") or 0.0),
    )


def passing_line(event: Event, told: Told) -> str:
    """Where a stage stands; empty for events that do not say it."""
    facts = _passing_facts(event, told)
    return f"{visible(text(event, 'stage'))}: {facts}" if facts else ""


def _passing_facts(event: Event, told: Told) -> str:
    kind = event["event"]
    if kind == "UnitPrepared":
        return _joined(_share_done(event, "images", "total_images", "images"), _rejects(event), _speed(event), _left(event))
    if kind == "AttemptStarted":
        return f"starting {format_count(whole(event, 'workers') or 0, 'worker')}"
    if kind == "Progress":
        return _joined(
            _epoch(event, told),
            f"step {whole(event, 'step')}/{whole(event, 'steps_per_epoch')}",
            _decimal("loss", number(event, "loss")),
            _percent("validation accuracy", told.validation_accuracy),
            _speed(event),
            _percent("waiting for data", number(event, "wait_share"), digits=0),
            _synchronising(event),
            _left(event),
        )
    if kind == "TrialReported":
        value = _decimal(f"validation {visible(text(event, 'metric'))}", number(event, "value"))
        return _joined(f"trial {whole(event, 'number')}", f"epoch {whole(event, 'epoch')}", value)
    if kind == "BatchesPredicted":
        return _joined(_share_done(event, "rows", "total_rows", "images"), _speed(event))
    return ""


def _parameters(event: Event) -> str:
    return ", ".join(f"{visible(key)}={visible(value)}" for key, value in parameters_of(event).items())


def _joined(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


def _epoch(event: Event, told: Told) -> str:
    epoch = epoch_number(event)
    return f"epoch {epoch}/{told.epochs}" if told.epochs else f"epoch {epoch}"


def _share_done(event: Event, done: str, total: str, noun: str) -> str:
    return f"{whole(event, done) or 0:,}/{whole(event, total) or 0:,} {noun}"


def _rejects(event: Event) -> str:
    rejects = whole(event, "rejects")
    return f"{rejects:,} rejected" if rejects else ""


def _speed(event: Event) -> str:
    speed = number(event, "images_per_s")
    return "" if speed is None else f"{speed:,.0f} images/s"


def _synchronising(event: Event) -> str:
    """Only where it is worth a word."""
    share = number(event, "sync_share")
    return "" if share is None or share < NOTABLE else _percent("synchronising", share, digits=0)


def _left(event: Event) -> str:
    eta_s = number(event, "eta_s")
    return "" if eta_s is None else f"{format_duration(eta_s)} left"


def _decimal(name: str, value: float | None) -> str:
    return "" if value is None else f"{name} {value:.3f}"


def _percent(name: str, share: float | None, digits: int = 1) -> str:
    return "" if share is None else f"{name} {share:.{digits}%}"
