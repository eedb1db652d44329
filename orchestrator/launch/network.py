"""Whether the network of a job can be had here, and what it costs."""

from __future__ import annotations

from importlib.util import find_spec

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


def check_package(job: LoadedJob) -> None:
    """Raises:
    JobError: The package that builds the network is not installed.
    """
    name = job.job.model.name or ""
    package = ZOOS.get(zoo_of(name)[0])
    if package and find_spec(package) is None:
        raise JobError((Problem(f"{job.path}  model.name", missing_package(name)),))
