"""The trained model as files for others: weights without pickles, and what is needed to use them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from orchestrator.durable import read_json, write_atomically, write_json
from orchestrator.errors import StorageError, TrainingError
from orchestrator.spec.model import ModelSpec
from orchestrator.training.distributed import unwrap
from orchestrator.training.models import build_model
from orchestrator.training.weights import differences

WEIGHTS = "weights.safetensors"
BUILT_FROM = {"name", "entry", "kwargs", "stem", "norm"}
"""What of the job decides which network is built."""


def write_model(folder: Path, model: nn.Module, spec: ModelSpec, classes: tuple[str, ...], preprocess: dict[str, Any], epoch: int) -> None:
    """Write the model of an epoch; the file that holds the hash of the weights is written last, so that a reader never mixes two epochs.

    Raises:
        StorageError: The storage is full or does not take the files.
    """
    content = save({name: _alone(tensor) for name, tensor in unwrap(model).state_dict().items()})
    write_json(folder / "labels.json", list(classes))
    write_json(folder / "preprocess.json", preprocess)
    write_atomically(folder / WEIGHTS, content)
    sizes = {"num_classes": len(classes), "in_channels": preprocess["channels"], "image_size": preprocess["size"]}
    facts = spec.model_dump(mode="json", include=BUILT_FROM | {"weights"}, exclude_none=True) | sizes
    write_json(folder / "model.json", facts | {"epoch": epoch, "weights_sha256": hashlib.sha256(content).hexdigest()})


def holds_model_of(folder: Path, epoch: int) -> bool:
    """Whether the model of an epoch is there, and whole."""
    try:
        facts, content = read_json(folder / "model.json"), (folder / WEIGHTS).read_bytes()
    except (OSError, ValueError, StorageError):
        return False
    of_epoch = facts.get("epoch", epoch) == epoch  # earlier versions did not say
    return of_epoch and bool(hashlib.sha256(content).hexdigest() == facts["weights_sha256"])


def _alone(tensor: Tensor) -> Tensor:
    """A copy on the CPU: safetensors does not take tensors that share memory, as those of layers that share their weights do."""
    return tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)


def load_model(folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The model on the CPU and its preprocessing (`size`, `channels`, `fit`, `mean`, `std`).

    Raises:
        StorageError: A file is missing, or the weights are not those of the other files.
        TrainingError: The function or package that built the network is missing, or builds another one now.
    """
    facts = read_json(folder / "model.json")
    try:
        content = (folder / WEIGHTS).read_bytes()
    except FileNotFoundError as error:
        raise StorageError(f"{folder / WEIGHTS} is missing", "train the run again") from error
    if hashlib.sha256(content).hexdigest() != facts["weights_sha256"]:
        raise StorageError(
            f"{folder / WEIGHTS} is damaged, or from another epoch than model.json", "resume the run: it writes the model again"
        )
    spec = ModelSpec(**{key: facts[key] for key in BUILT_FROM & facts.keys()})
    model = build_model(spec, **{key: facts[key] for key in ("num_classes", "in_channels", "image_size")})
    tensors = load(content)
    if faults := list(differences(model.state_dict(), tensors).values()):
        what = f"{spec.label} builds another network than the one that was trained: {', '.join(faults[:3])}"
        raise TrainingError(what, "bring back the version of it that the run was trained with")
    model.load_state_dict(tensors)
    return model, read_json(folder / "preprocess.json")
