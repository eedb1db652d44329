"""Weights that training starts from: tensors out of a file, without running anything that the file holds, and how they fit a network."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from orchestrator.errors import TrainingError
from orchestrator.training.models import below, head_of

INSIDE = ("state_dict", "model")
"""Keys under which training programs keep the weights among other things."""
WRAPPER = "module."
"""What data-parallel training puts before every name."""
COUNTER = "num_batches_tracked"
"""Older files do not have this buffer, and nothing depends on it."""
NAMES_SHOWN = 20
REASON_SHOWN = 120
CALLED = re.compile(r"GLOBAL (\S+)")


@dataclass(frozen=True)
class StartWeights:
    """The content of a file of weights."""

    source: str
    """Path or address."""
    sha256: str
    """Of the file."""
    tensors: Mapping[str, Tensor]


def parse_weights(content: bytes, source: str) -> StartWeights:
    """The tensors in a file, on the CPU: safetensors, or what `torch.save` has written. Nothing in the file is run.

    Raises:
        TrainingError: It is neither, is damaged, or holds more than finite tensors.
    """
    try:
        found = (
            load(content) if _is_safetensors(content) else _unpack(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))
        )
    except Exception as error:  # a damaged pickle fails in as many ways as there are instructions in it
        advice = "store the tensors alone: safetensors.torch.save_file(model.state_dict(), PATH)"
        raise TrainingError(f"{source} is no file of weights, or damaged, or holds more than tensors: {_reason(error)}", advice) from error
    strays = [str(name) for name, tensor in found.items() if not (isinstance(name, str) and _is_dense(tensor))]
    if strays or not found:
        raise TrainingError(f"{source} holds no weights by name: {_listed(strays) or 'nothing'}", "store model.state_dict()")
    broken = [name for name, tensor in found.items() if not bool(torch.isfinite(tensor.float()).all())]
    if broken:
        raise TrainingError(f"{source} holds weights that are not finite: {_listed(broken)}", "take an earlier checkpoint of that training")
    if all(name.startswith(WRAPPER) for name in found):
        found = {name.removeprefix(WRAPPER): tensor for name, tensor in found.items()}
    return StartWeights(source, hashlib.sha256(content).hexdigest(), found)


def _reason(error: Exception) -> str:
    """One line; torch's own advice to trust the file is not passed on."""
    called = CALLED.search(str(error))
    if called:
        return f"it would call {called[1]}"
    if isinstance(error, SafetensorError | RuntimeError):
        return (str(error).strip() or type(error).__name__).splitlines()[0][:REASON_SHOWN]
    return "it cannot be read as tensors"


def _is_dense(value: Any) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and not value.is_quantized


def _is_safetensors(content: bytes) -> bool:
    """Eight bytes with the length of a JSON header, and the header."""
    return content[8:9] == b"{" and int.from_bytes(content[:8], "little") <= len(content)


def _unpack(found: Any) -> dict[str, Any]:
    """The weights themselves, where they stand among other things."""
    if not isinstance(found, dict):
        return {type(found).__name__: None}
    return next((found[key] for key in INSIDE if isinstance(found.get(key), dict)), found)


def new_head(model: nn.Module, weights: StartWeights, num_classes: int) -> str:
    """Compare a file with a network, which may be without storage.

    Returns:
        What happens to the last layer: empty when the file has it, else one line.

    Raises:
        TrainingError: With every parameter outside the last layer that is missing, unknown or of another shape.
    """
    own = model.state_dict()
    faults = differences(own, weights.tensors)
    head = head_of(model, num_classes) if faults else ""
    outside = [fault for name, fault in faults.items() if not below(name, head)] if head else list(faults.values())
    if outside:
        advice = "name the network of the file under model.name with its stem and norm, and give data.image its size and channels"
        raise TrainingError(f"{weights.source} does not fit the network: {_listed(outside)}", advice)
    if not faults:
        return ""
    before = next((len(tensor) for name, tensor in weights.tensors.items() if below(name, head) and name in own), None)
    return f"new {head} for {num_classes:,} classes, " + (f"instead of {before:,}" if before is not None else "the file has none")


def differences(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> dict[str, str]:
    """Name of each parameter that cannot be taken over: what is wrong with it."""
    missing = {name: f"{name} is missing" for name in own if name not in given and not name.endswith(COUNTER)}
    unknown = {name: f"{name} is unknown" for name in sorted(given) if name not in own}
    shapes = {name: (tuple(given[name].shape), tuple(tensor.shape)) for name, tensor in own.items() if name in given}
    misshaped = {name: f"{name} is {found}, not {wanted}" for name, (found, wanted) in shapes.items() if found != wanted}
    return missing | unknown | misshaped


def start_from(model: nn.Module, weights: StartWeights, num_classes: int) -> str:
    """Take the weights over; the last layer keeps its own where the file has another one.

    Returns:
        As `new_head`.

    Raises:
        TrainingError: As `new_head`.
    """
    own, replaced = model.state_dict(), new_head(model, weights, num_classes)
    head = head_of(model, num_classes) if replaced else None
    with torch.no_grad():
        for name, tensor in own.items():
            if name in weights.tensors and (head is None or not below(name, head)):
                tensor.copy_(weights.tensors[name])
    return replaced


def _listed(faults: Sequence[str]) -> str:
    more = f", and {len(faults) - NAMES_SHOWN:,} more" if len(faults) > NAMES_SHOWN else ""
    return ", ".join(faults[:NAMES_SHOWN]) + more
