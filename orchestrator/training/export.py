"""The trained model as files for others: weights without pickles, and what is needed to use them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from safetensors.torch import load, save
from torch import nn

from orchestrator.durable import read_json, write_atomically, write_json
from orchestrator.errors import StorageError
from orchestrator.spec.job import ModelSpec
from orchestrator.training.distributed import unwrap
from orchestrator.training.models import build_model

WEIGHTS = "weights.safetensors"


def write_model(folder: Path, model: nn.Module, spec: ModelSpec, classes: tuple[str, ...], preprocess: dict[str, Any]) -> None:
    """Write the model; the file that holds the hash of the weights is written last, so that a reader never mixes two epochs.

    Raises:
        StorageError: The storage is full or does not take the files.
    """
    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in unwrap(model).state_dict().items()})
    write_json(folder / "labels.json", list(classes))
    write_json(folder / "preprocess.json", preprocess)
    write_atomically(folder / WEIGHTS, content)
    facts = {"name": spec.name, "norm": spec.norm, "num_classes": len(classes), "in_channels": preprocess["channels"]}
    write_json(folder / "model.json", facts | {"weights_sha256": hashlib.sha256(content).hexdigest()})


def load_model(folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The model on the CPU and its preprocessing (`size`, `channels`, `fit`, `mean`, `std`).

    Raises:
        StorageError: A file is missing, or the weights are not those of the other files.
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
    spec = ModelSpec(name=facts["name"], norm=facts["norm"])
    model = build_model(spec, num_classes=facts["num_classes"], in_channels=facts["in_channels"])
    model.load_state_dict(load(content))
    return model, read_json(folder / "preprocess.json")
