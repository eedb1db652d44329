"""Layers that keep the weights they start with."""

from __future__ import annotations

import difflib

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from orchestrator.errors import TrainingError
from orchestrator.spec.model import ModelSpec
from orchestrator.training.models import below, head_of


def freeze_layers(model: nn.Module, spec: ModelSpec, num_classes: int) -> tuple[nn.Module, ...]:
    """Take the parameters that `model.freeze` names out of training.

    Returns:
        The batch normalisations among the frozen layers: they must be set to `eval` whenever the network is set to `train`, or their
        statistics would still move.

    Raises:
        TrainingError: A name is unknown, or nothing is left to train.
    """
    prefixes = () if isinstance(spec.freeze, str) else spec.freeze
    _check_known(model, prefixes)
    head = head_of(model, num_classes) if spec.freeze == "backbone" else ""

    def is_frozen(name: str) -> bool:
        return not below(name, head) or any(below(name, prefix) for prefix in prefixes)

    for name, parameter in model.named_parameters():
        if is_frozen(name):
            parameter.requires_grad = False
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise TrainingError("nothing of the network is left to train", "leave its last layer out of model.freeze")
    return tuple(module for name, module in model.named_modules() if isinstance(module, _BatchNorm) and is_frozen(name))


def _check_known(model: nn.Module, prefixes: tuple[str, ...]) -> None:
    names = dict.fromkeys(name for name, _ in model.named_parameters())
    layers = {".".join(name.split(".")[:depth]): None for name in names for depth in range(1, name.count(".") + 2)}
    unknown = [prefix for prefix in prefixes if prefix not in layers]
    if not unknown:
        return
    near = difflib.get_close_matches(unknown[0], layers, n=1)
    top = ", ".join(dict.fromkeys(name.split(".")[0] for name in names))
    hint = f"; did you mean {near[0]}?" if near else ""
    raise TrainingError(
        f"model.freeze: the network has no layer {', '.join(unknown)}{hint}", f"its layers are {top}, and what is inside them"
    )
