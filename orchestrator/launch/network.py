"""Whether the network of a job can be had here, and what it costs."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from orchestrator.entry import is_there
from orchestrator.errors import JobError, Problem
from orchestrator.plan.values import ModelFacts
from orchestrator.record.folder import RunFolder
from orchestrator.spec.load import LoadedJob
from orchestrator.spec.model import ZOOS, missing_package, zoo_of


def network_facts(job: LoadedJob, num_classes: int, folder: RunFolder) -> ModelFacts | None:
    """What the network of a job costs; absent where only the workers can know. Loads torch.

    Raises:
        PlanError: The network cannot be trained as asked.
    """
    from orchestrator.stages.network import examine_network

    return examine_network(job.job, num_classes, str(job.path), folder.checkpoints)


def check_packages(job: LoadedJob, *, augments: bool = True) -> None:
    """Look for what only the workers import, without importing it: they may get to it hours after the start.

    Args:
        job: What the user asked for.
        augments: Its images are going to be augmented.

    Raises:
        JobError: The package that builds the network, or a module of the user's, is not there.
    """
    spec = job.job
    name = spec.model.name or ""
    package = ZOOS.get(zoo_of(name)[0])
    problems = [Problem(f"{job.path}  model.name", missing_package(name))] if package and find_spec(package) is None else []
    own = {"model.entry": spec.model.entry}
    own |= {f"augment.{number}.entry": step.entry for number, step in enumerate(spec.augment) if augments}
    for key, entry in own.items():
        if entry is not None and not is_there(entry):
            problems.append(Problem(f"{job.path}  {key}", f"there is no module for {entry} in the installed packages or in {Path.cwd()}"))
    if problems:
        raise JobError(tuple(problems))
