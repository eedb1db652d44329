"""tune: Ray Tune drives the trials of a study; the trial folders hold what came of them."""

from __future__ import annotations

import math
import threading
from dataclasses import asdict, dataclass
from typing import Any

from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from orchestrator.durable import read_json
from orchestrator.errors import Interrupted, TrainingError
from orchestrator.record.folder import RunFolder, numbered
from orchestrator.record.journal import Journal, read_events
from orchestrator.spec.job import DomainSpec, TuneSpec
from orchestrator.spec.tune import with_parameters
from orchestrator.stages.engine import Engine
from orchestrator.stages.evaluate import evaluate_model
from orchestrator.stages.stopping import StopFile, StopRequest
from orchestrator.stages.trial import ENDED, StudyWork, Trial, has_ended

DRIVER_RESOURCES = {"memory": 2**20}
"""What a trial with a worker group of its own reserves for itself. No part of a CPU: Ray Data needs the one that is left whole."""
FINISHED: str = Searcher.FINISHED
RESTARTS = 1
"""How often a trial whose process was lost is started again; it continues at its checkpoint."""


@dataclass(frozen=True)
class TrialResult:
    """What came of a trial, as its folder tells it."""

    number: int
    parameters: dict[str, Any]
    state: str
    """finished, stopped (cut short by the scheduler), failed, or unfinished."""
    epochs: int
    value: float | None
    """The best of its epochs; absent when none was finished."""
    seconds: float
    original_images_read: int
    error: str


def tune_model(work: StudyWork, engine: Engine, journal: Journal, stop: StopRequest) -> TrialResult:
    """Run the study, and measure its first and its best trial on the split that no trial saw. Returns the best trial.

    Raises:
        Interrupted: The user asked to stop.
        TrainingError: No trial could be evaluated.
    """
    spec = tune_spec(work)
    journal.record("StudyStarted", trials=work.tune.trials, search=spec.search, metric=spec.metric, concurrent=work.tune.concurrent)
    results = run_study(work, journal, stop)
    best = best_trial(results, spec)
    after = _final_metrics(work, best.number, engine, journal, stop)
    before = _final_metrics(work, 0, engine, journal, stop) if results[0].value is not None else None
    journal.record(
        "StudyFinished",
        best=best.number,
        parameters=best.parameters,
        metric=spec.metric,
        split=after["split"],
        before=before and {name: before[name] for name in ("accuracy", "loss")},
        after={name: after[name] for name in ("accuracy", "loss")},
        original_images_read=sum(result.original_images_read for result in results),
        trials=[asdict(result) for result in results],
    )
    return best


def _final_metrics(work: StudyWork, number: int, engine: Engine, journal: Journal, stop: StopRequest) -> dict[str, Any]:
    """Metrics of a trial on the split of the final evaluation; measured once."""
    folder = work.folder.trial(number)
    if not folder.metrics.is_file():
        job = with_parameters(work.job, {})
        evaluate_model(job, work.plan, work.manifest, work.data, folder, engine, journal, stop)
    metrics: dict[str, Any] = read_json(folder.metrics)
    return metrics


def run_study(work: StudyWork, journal: Journal, stop: StopRequest) -> list[TrialResult]:
    """Run the trials that have not ended, and return all of them by number.

    Raises:
        Interrupted: The user asked to stop; trials that were running have saved a checkpoint.
        TrainingError: No trial could be evaluated.
    """
    spec = tune_spec(work)
    mode = "max" if spec.metric == "accuracy" else "min"
    alone = {"cpu": work.tune.shape.cpus, "gpu": min(1, work.tune.shape.gpus)}
    resources = alone if work.tune.workers == 1 else DRIVER_RESOURCES
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(Trial, work=work), resources),
        tune_config=tune.TuneConfig(
            metric="value",
            mode=mode,
            num_samples=work.tune.trials,
            search_alg=StudySearch(work),
            scheduler=make_scheduler(spec, work.job.train.epochs),
            max_concurrent_trials=work.tune.concurrent,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="study",
            storage_path=str(numbered(work.folder.attempts, "tune")),
            verbose=0,
            callbacks=[Recorder(work, journal)],
            failure_config=tune.FailureConfig(max_failures=RESTARTS),
        ),
    )
    _fit(tuner)
    if stop.asked:
        raise Interrupted("stopped; every trial has saved a checkpoint", f"orchestrator resume {work.folder.name}")
    results = study_results(work.folder, spec)
    if not any(result.value is not None for result in results):
        first = next((result.error for result in results if result.error), "no trial finished an epoch")
        raise TrainingError(
            f"all {len(results)} trials failed; the first: {first}", f"narrow tune.space; the trials are in {work.folder.trials}"
        )
    return results


def tune_spec(work: StudyWork) -> TuneSpec:
    assert work.job.tune is not None  # noqa: S101 -- a study is made from a job that tunes
    return work.job.tune


def make_scheduler(spec: TuneSpec, epochs: int) -> TrialScheduler:
    """ASHA (Li et al., 2018, arXiv:1810.05934) with a reduction factor of 3, or nothing."""
    if spec.scheduler == "none":
        return FIFOScheduler()
    return Successive(time_attr="epoch", max_t=max(epochs, spec.grace_epochs + 1), grace_period=spec.grace_epochs, reduction_factor=3)


class Successive(ASHAScheduler):  # type: ignore[misc]  # Ray ships no types
    """ASHA that never cuts the first trial: before and after can be compared only when the job's own parameters had their full time."""

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        decision: str = super().on_trial_result(tune_controller, trial, result)
        is_own = trial.config["number"] == 0
        return TrialScheduler.CONTINUE if is_own and not result.get("done") else decision


def _fit(tuner: tune.Tuner) -> None:
    """In a thread: `fit` would take over Ctrl-C in the main thread."""
    failure: list[BaseException] = []

    def fit() -> None:
        try:
            tuner.fit()
        except BaseException as error:  # noqa: BLE001 -- handed to the main thread, which raises it
            failure.append(error)

    thread = threading.Thread(target=fit, name="study", daemon=True)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]


class StudySearch(Searcher):  # type: ignore[misc]  # Ray ships no types
    """Hands out the points of the plan by number; with optuna, the later ones are chosen from the results of the earlier ones."""

    def __init__(self, work: StudyWork) -> None:
        spec = tune_spec(work)
        super().__init__(metric="value", mode="max" if spec.metric == "accuracy" else "min")
        self._trials, self._stop = work.tune.trials, StopFile(work.folder.stop_request)
        self._points = known_points(work)
        self._optuna = optuna_search(spec) if work.tune.adaptive else None
        self._given: dict[str, dict[str, Any]] = {}
        self._asked: set[str] = set()

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        number = len(self._given)
        if number == self._trials or self._stop.stop_requested():
            return FINISHED
        parameters: dict[str, Any] | None = self._points.get(number)
        if parameters is None and self._optuna is not None:
            parameters = self._optuna.suggest(trial_id)
            self._asked.add(trial_id)
        if parameters is None:
            return FINISHED
        self._given[trial_id] = parameters
        return {"number": number, "parameters": parameters}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:  # noqa: FBT001, FBT002
        value = None if error or result is None or not math.isfinite(result["value"]) else result["value"]
        if self._optuna is None or trial_id not in self._given:
            return
        if trial_id in self._asked:
            self._optuna.on_trial_complete(trial_id, result, error=value is None)
        elif value is not None:
            self._optuna.add_evaluated_point(self._given[trial_id], value)


def known_points(work: StudyWork) -> dict[int, dict[str, Any]]:
    """Parameters by number: those of the plan, and those of trials that an earlier start began."""
    begun = {event["number"]: event["parameters"] for event in read_events(work.folder.events) if event["event"] == "TrialStarted"}
    return dict(enumerate(work.tune.points)) | begun


def optuna_search(spec: TuneSpec) -> Any:
    from ray.tune.search.optuna import OptunaSearch

    space = {key: _optuna_domain(domain) for key, domain in spec.space.items()}
    return OptunaSearch(space=space, metric="value", mode="max" if spec.metric == "accuracy" else "min", seed=spec.seed)


def _optuna_domain(domain: DomainSpec) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if domain.choice is not None:
        return CategoricalDistribution(domain.choice)
    if domain.randint is not None:
        return IntDistribution(*domain.randint)
    if domain.loguniform is not None:
        return FloatDistribution(*domain.loguniform, log=True)
    assert domain.uniform is not None  # noqa: S101 -- exactly one is given
    return FloatDistribution(*domain.uniform)


class Recorder(tune.Callback):  # type: ignore[misc]  # Ray ships no types
    """Writes the course of the study into the journal of the run."""

    def __init__(self, work: StudyWork, journal: Journal) -> None:
        self._work, self._journal = work, journal
        self._ended_before = {number for number in range(work.tune.trials) if has_ended(work.folder.trial(number))}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002 -- Ray's interface
        number = trial.config["number"]
        if number not in self._ended_before:
            self._journal.record("TrialStarted", number=number, parameters=trial.config["parameters"], trials=self._work.tune.trials)

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any) -> None:  # noqa: ARG002
        number = trial.config["number"]
        if number not in self._ended_before and math.isfinite(result["value"]):
            self._journal.record(
                "TrialReported", number=number, epoch=result["epoch"], value=result["value"], metric=tune_spec(self._work).metric
            )


def study_results(folder: RunFolder, spec: TuneSpec) -> list[TrialResult]:
    """All trials that were begun, by number."""
    return [_result(RunFolder(path), spec) for path in sorted(folder.trials.glob("[0-9]*"))]


def _result(folder: RunFolder, spec: TuneSpec) -> TrialResult:
    events = read_events(folder.events)
    begun = next((event for event in events if event["event"] == "RunStarted"), {})
    ended = next((event for event in events if event["event"] == ENDED), {})
    epochs = {event["epoch"]: event for event in events if event["event"] == "EpochFinished"}
    values = [value for event in epochs.values() if (value := event[f"validation_{spec.metric}"]) is not None]
    best = max if spec.metric == "accuracy" else min
    return TrialResult(
        number=int(folder.name),
        parameters=begun.get("parameters", {}),
        state=ended.get("state", "unfinished"),
        epochs=len(epochs),
        value=best(values) if values else None,
        seconds=round(sum(event["seconds"] for event in epochs.values()), 1),
        original_images_read=ended.get("original_images_read", 0),
        error=ended.get("error", ""),
    )


def best_trial(results: list[TrialResult], spec: TuneSpec) -> TrialResult:
    """The best validation value of the trials that had their full time; the earlier trial where two are equal."""
    sign = -1 if spec.metric == "accuracy" else 1
    valued = [result for result in results if result.value is not None]
    whole = [result for result in valued if result.state == "finished"]
    return min(whole or valued, key=lambda result: (sign * (result.value or 0.0), result.number))
