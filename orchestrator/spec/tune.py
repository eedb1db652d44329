"""The parameters that tuning may change, and jobs with other parameters."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from pydantic import ValidationError

from orchestrator.spec.faults import Fault, faults
from orchestrator.spec.fields import all_paths
from orchestrator.spec.job import JobSpec, TuneSpec
from orchestrator.spec.problems import KeyPath, dotted, nearest

TUNABLE = ("train", "model", "augment")
"""Sections that leave the prepared images and the meaning of the metrics as they are."""
MACHINE = "is not a parameter of the model; it cannot be tuned"
FIXED = {
    "train.workers": MACHINE,
    "train.micro_batch": MACHINE,
    "model.weights": "is the same in every trial; it cannot be tuned",
}
"""Keys of these sections that stay what they are, and why."""


def key_path(key: str) -> KeyPath:
    """`augment.0.random_crop.padding` as a path."""
    return tuple(int(part) if part.isdigit() else part for part in key.split("."))


def with_parameters(job: JobSpec, parameters: Mapping[str, Any]) -> JobSpec:
    """The job of a trial: other values under some keys, and no tuning of its own.

    Raises:
        ValidationError: A value is out of range.
        LookupError: The job has no such place, as `augment.1` where there is one augmentation.
    """
    for key in parameters:
        own_value(job, key)
    return JobSpec.model_validate(tuned_job(job, parameters))


def own_value(job: JobSpec, key: str) -> Any:
    """What the job itself says under a key.

    Raises:
        LookupError: The job has no such place.
    """
    value: Any = job.model_dump(mode="json")
    for part in key_path(key):
        if value is None:
            raise LookupError(key)
        value = value[part]
    return value


def tuned_job(job: JobSpec, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The job with better parameters, as short as the user wrote it: plain data for a job file."""
    value = job.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    value.pop("tune", None)
    for key, parameter in parameters.items():
        *sections, last = key_path(key)
        inside: Any = value
        for part in sections:
            inside = inside.setdefault(part, {}) if isinstance(inside, dict) else inside[part]
        inside[last] = parameter
    return value


def space_faults(job: JobSpec) -> list[Fault]:
    """Everything in `tune` that would make a trial fail, each under its key."""
    if job.tune is None:
        return []
    found: list[Fault] = []
    for key, domain in job.tune.space.items():
        place: KeyPath = ("tune", "space", key)
        what = _unusable(key) or next((fault for value in domain.edges if (fault := _refused(job, key, value))), None)
        if what:
            found.append((place, what))
    return found or _grid_faults(job.tune)


def _unusable(key: str) -> str | None:
    path = key_path(key)
    known = {dotted(known): known for known in all_paths() if known[0] in TUNABLE}
    if tuple(0 if isinstance(part, int) else part for part in path) in known.values():
        return f"{key} {FIXED[key]}" if key in FIXED else None
    if path[0] not in TUNABLE and path in set(all_paths()):
        return f"{path[0]} is the same in every trial; what can be tuned stands under {', '.join(TUNABLE)}"
    near = nearest(key, known) or next((name for name in known if name.endswith(f".{path[-1]}")), None)
    return "no such parameter" + (f'; did you mean "{near}"?' if near else f"; tune keys under {', '.join(TUNABLE)}")


def _refused(job: JobSpec, key: str, value: Any) -> str | None:
    try:
        with_parameters(job, {key: value})
    except ValidationError as error:
        return faults(error.errors(include_url=False))[0][1]
    except LookupError:
        return f"the job has no {key} to change"
    return None


def _grid_faults(tune: TuneSpec) -> list[Fault]:
    if tune.search != "grid":
        return []
    found: list[Fault] = [
        (("tune", "space", key), "a grid needs choice: [...]") for key, domain in tune.space.items() if domain.choice is None
    ]
    if found:
        return found
    points = prod(len(domain.edges) for domain in tune.space.values())
    if points + 1 > tune.trials:
        return [(("tune", "trials"), f"the grid has {points} points and the job's own; tune.trials={points + 1} holds them")]
    return []
