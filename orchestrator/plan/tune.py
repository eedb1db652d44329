"""How a study runs: which points it tries, and how many trials fit on the cluster at once. Pure arithmetic."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from orchestrator.errors import PlanError, Problem
from orchestrator.plan.batch import global_batch, is_probed
from orchestrator.plan.checks import Question, find_problems
from orchestrator.plan.values import ClusterShape, Decision, TunePlan
from orchestrator.plan.workers import usable_workers
from orchestrator.spec.job import DomainSpec, JobSpec, TuneSpec
from orchestrator.spec.section import AUTO
from orchestrator.spec.train import TrainSpec
from orchestrator.spec.tune import own_value, with_parameters
from orchestrator.units import format_count

DRAWS_PER_POINT = 50
"""Draws that may repeat an earlier point before a space of choices counts as exhausted."""


def plan_tune(
    job: JobSpec, images: Mapping[str, int], classes: tuple[str, ...], shape: ClusterShape, where: str
) -> tuple[TunePlan, tuple[Decision, ...]]:
    """Decide about a study.

    Raises:
        PlanError: There are no validation images, or a trial could not run.
    """
    assert job.tune is not None  # noqa: S101 -- asked only for jobs that tune
    if not images.get("validation"):
        what = "tuning compares trials on validation images, and there are none; set data.split.validation"
        raise PlanError((Problem(where, what),))
    points = tuple(study_points(job, job.tune))
    workers = trial_workers(job.train, global_batch(job.train, images["train"]))
    concurrent, trial_shape, why = share_cluster(shape, workers, job.tune.trials)
    jobs = [with_parameters(job, point) for point in points]
    share = trial_shape if workers > 1 else shape
    _check_trials([Question(one, dict(images), share, workers, global_batch(one.train, images["train"]), classes) for one in jobs], where)
    adaptive = job.tune.search == "optuna"
    plan = TunePlan(job.tune.trials if adaptive else len(points), points, adaptive, workers, concurrent, trial_shape)
    scheduler = "asha cuts weak ones short" if job.tune.scheduler == "asha" else "every one trains to its end"
    return plan, (
        Decision("trials", f"{plan.trials}, {job.tune.search}", f"tune.trials; the first is the job's own parameters; {scheduler}"),
        Decision("at once", format_count(concurrent, "trial"), why),
    )


def trial_workers(spec: TrainSpec, batch: int) -> int:
    """Workers of every trial: as few as the job allows, so that more trials run at once."""
    if isinstance(spec.workers, tuple):
        return usable_workers(spec, batch)[0]
    return 1 if spec.workers == AUTO else spec.workers


def with_trial_workers(spec: TrainSpec, batch: int, workers: int) -> TrainSpec:
    """What a trial trains: a fixed number of workers, and the micro-batches that a range of workers has, which decide batch statistics.

    Args:
        spec: Of the trial's job.
        batch: Images in a step of it.
        workers: Of every trial.
    """
    changes: dict[str, Any] = {"workers": workers}
    parts = math.lcm(workers, *usable_workers(spec, batch))
    if isinstance(spec.workers, tuple) and spec.micro_batch is None and not is_probed(spec) and batch % parts == 0:
        changes["micro_batch"] = batch // parts
    return spec.model_copy(update=changes)


def share_cluster(shape: ClusterShape, workers: int, trials: int) -> tuple[int, ClusterShape, str]:
    """How many trials run at once, and what each of them has.

    A trial of one worker reads its shards itself. One of several workers needs a whole CPU for Ray Data besides, or it would
    wait for data that nobody can read.
    """
    if shape.gpus:
        fits = shape.gpus // workers
        why = f"{format_count(shape.gpus, 'GPU')}, {workers} for each trial"
    else:
        fits = shape.cpus // (workers if workers == 1 else workers + 1)
        why = f"{format_count(shape.cpus, 'CPU')}, at least {workers if workers == 1 else workers + 1} for each trial"
    concurrent = max(1, min(fits, trials))
    cpus = shape.cpus // concurrent
    return concurrent, ClusterShape(min(cpus, shape.node_cpus) if workers == 1 else cpus, shape.gpus // concurrent), why


def study_points(job: JobSpec, tune: TuneSpec) -> Iterator[dict[str, Any]]:
    """The parameters of each trial, the job's own first, no point twice. With optuna only the first is known beforehand."""
    own = {key: own_value(job, key) for key in tune.space}
    seen = {repr(own)}
    yield own
    candidates = _grid(tune) if tune.search == "grid" else _draws(tune)
    for point in () if tune.search == "optuna" else candidates:
        if len(seen) == tune.trials:
            return
        if repr(point) not in seen:
            seen.add(repr(point))
            yield point


def _grid(tune: TuneSpec) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*(domain.edges for domain in tune.space.values())):
        yield dict(zip(tune.space, values, strict=True))


def _draws(tune: TuneSpec) -> Iterator[dict[str, Any]]:
    chance = random.Random(tune.seed)  # noqa: S311 -- no secret depends on it
    for _ in range(DRAWS_PER_POINT * tune.trials):
        yield {key: _draw(domain, chance) for key, domain in tune.space.items()}


def _draw(domain: DomainSpec, chance: random.Random) -> Any:
    if domain.choice is not None:
        return chance.choice(domain.choice)
    if domain.randint is not None:
        return chance.randint(*domain.randint)
    if domain.uniform is not None:
        return _rounded(chance.uniform(*domain.uniform))
    assert domain.loguniform is not None  # noqa: S101 -- exactly one is given
    low, high = domain.loguniform
    return _rounded(min(high, max(low, math.exp(chance.uniform(math.log(low), math.log(high))))))


def _rounded(value: float) -> float:
    """Six digits are more than a parameter means, and fit a job file."""
    return float(f"{value:.6g}")


def _check_trials(asked: Iterable[Question], where: str) -> None:
    """Raises:
    PlanError: With every different reason why a trial could not run.
    """
    problems = {problem: None for question in asked for problem in find_problems(question, where)}
    if problems:
        raise PlanError(tuple(problems), "narrow tune.space, or change the job file")
