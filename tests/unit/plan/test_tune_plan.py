"""The plan of a study: its points, and what runs at once."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.errors import PlanError
from orchestrator.plan.make import DataFacts, make_plan
from orchestrator.plan.tune import share_cluster
from orchestrator.plan.values import ClusterShape, TunePlan
from orchestrator.spec.job import JobSpec

LAPTOP = ClusterShape(2, 0)
FACTS = DataFacts("f", ("a", "b"), {"train": 1000, "validation": 100, "test": 100})


def job(tune: dict[str, Any], **train: Any) -> JobSpec:
    return JobSpec.model_validate({"name": "pets", "data": {"source": "images"}, "train": {"batch": 50} | train, "tune": tune})


def study(tune: dict[str, Any], shape: ClusterShape = LAPTOP, **train: Any) -> TunePlan:
    plan = make_plan(job(tune, **train), FACTS, shape, "job.yaml").tune
    assert plan is not None
    return plan


def test_the_first_trial_is_the_job_itself_and_no_point_comes_twice() -> None:
    """Random points are different from one another, within their bounds, and the same whenever they are drawn."""
    space = {
        "train.lr": {"loguniform": [0.01, 1.0]},
        "train.epochs": {"randint": [1, 3]},
        "model.norm": {"choice": ["batch", "group"]},
    }
    tune: dict[str, Any] = {"space": space, "trials": 20}
    points = study(tune, lr=0.07).points

    assert points[0] == {"train.lr": 0.07, "train.epochs": 10, "model.norm": "batch"}
    assert len({repr(point) for point in points}) == len(points) == 20
    assert all(0.01 <= point["train.lr"] <= 1.0 for point in points)
    assert {point["train.epochs"] for point in points[1:]} == {1, 2, 3}
    assert points == study(tune, lr=0.07).points
    assert points != study(tune | {"seed": 1}, lr=0.07).points


def test_a_small_space_has_fewer_trials_than_asked() -> None:
    """Three values give three trials, however many are asked for."""
    plan = study({"space": {"train.momentum": {"choice": [0.5, 0.8, 0.9]}}, "trials": 10})
    assert plan.trials == 3


def test_a_grid_has_every_combination_once() -> None:
    """And the job's own point first, not again where the grid has it too."""
    space = {"train.lr": {"choice": [0.1, 0.2]}, "train.momentum": {"choice": [0.5, 0.9]}}
    points = study({"space": space, "search": "grid", "trials": 5}).points
    found = [(point["train.lr"], point["train.momentum"]) for point in points]
    assert found[0] == (0.1, 0.9)
    assert sorted(found) == [(0.1, 0.5), (0.1, 0.9), (0.2, 0.5), (0.2, 0.9)]


@pytest.mark.parametrize("cpus", [1, 2, 3, 4, 8, 64])
@pytest.mark.parametrize(("gpus", "workers"), [(0, 1), (0, 2), (0, 4), (1, 1), (4, 1), (4, 2), (4, 4)])
def test_trials_at_once_fit_the_cluster(cpus: int, gpus: int, workers: int) -> None:
    """All trials at once never need more than there is, and at least one runs: nothing waits for what nobody frees."""
    concurrent, shape, _ = share_cluster(ClusterShape(cpus, gpus), workers, 100)
    assert concurrent >= 1
    assert concurrent * shape.cpus <= cpus
    assert concurrent * shape.gpus <= gpus
    assert not gpus or shape.gpus >= workers


@pytest.mark.parametrize(
    ("tune", "found"),
    [
        ({"space": {"train.batch": {"choice": [64, 4096]}}}, "more than the 1,000 training images"),
        ({"space": {"train.batch": {"choice": [51, 77]}}}, "does not divide among 2 workers"),
    ],
)
def test_a_trial_that_could_not_run_is_refused_beforehand(tune: dict[str, Any], found: str) -> None:
    """The rules of the plan hold for every trial."""
    with pytest.raises(PlanError, match=found):
        study(tune, ClusterShape(4, 0), workers=2)


def test_tuning_needs_validation_images() -> None:
    """Without them trials could only be compared on what they trained or on what nobody may see."""
    facts = DataFacts("f", ("a", "b"), {"train": 1000, "test": 100})
    with pytest.raises(PlanError, match="there are none"):
        make_plan(job({"space": {"train.lr": {"choice": [1, 2]}}}), facts, ClusterShape(2, 0), "job.yaml")
