"""The network of a job before it is trained: whether it can be had, what it starts from, and what it costs."""

from __future__ import annotations

import os
from pathlib import Path

from orchestrator.dataset.sources.storage import read_file
from orchestrator.errors import DataError, PlanError, Problem, TrainingError
from orchestrator.plan.values import ModelFacts
from orchestrator.spec.job import JobSpec
from orchestrator.training.cost import model_facts
from orchestrator.training.eager import eager
from orchestrator.training.weights import StartWeights, parse_weights


def read_weights(source: str) -> StartWeights:
    """The weights of a path or an address.

    Raises:
        TrainingError: There is no such file, or it holds something else.
        DataError: The storage does not give it, now and some seconds later.
    """
    try:
        return parse_weights(read_file("", os.fsencode(source)), source)
    except FileNotFoundError as error:
        advice = "a path is seen from the folder of the job file, on the command line from the working directory"
        raise TrainingError(f"there is no file of weights {source}", advice) from error


def examine_network(job: JobSpec, num_classes: int, where: str, checkpoints: Path) -> ModelFacts | None:
    """Count the network, and prove that the weights fit it; a function of the user's is left to the workers.

    Args:
        job: What the user asked for.
        num_classes: Classes of the images.
        where: The job file, named in the errors.
        checkpoints: Of the run: once there is one, the weights to start from are not read again.

    Raises:
        PlanError: The network cannot be trained as asked.
    """
    spec = job.model
    try:
        begun = any(checkpoints.glob("step-*"))
        weights = read_weights(spec.weights) if spec.weights and not begun else None
        if spec.entry is not None:
            return None
        image = job.data.image
        sizes = {"num_classes": num_classes, "in_channels": image.channels, "image_size": image.size}
        with eager(compiles=spec.is_foreign):
            return model_facts(spec, weights, **sizes, layer_decay=job.train.layer_decay)
    except (TrainingError, DataError) as error:
        raise PlanError((Problem(f"{where}  model", error.message),), error.next_step) from error
