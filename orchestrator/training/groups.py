"""Which parameters share a learning rate and a weight decay."""

from __future__ import annotations

from typing import Any

from torch import nn

from orchestrator.errors import TrainingError
from orchestrator.training.models import below


def parameter_groups(model: nn.Module, *, weight_decay: float, layer_decay: float) -> list[dict[str, Any]]:
    """Groups for an optimiser, of the parameters that are trained; `lr_scale` of a group multiplies the learning rate.

    Biases, the parameters of normalisation, and what the network names in `no_weight_decay` (timm's convention) are not decayed. Layer
    k of n has the scale layer_decay^(n - 1 - k), the last one 1. Method: ULMFiT (arXiv:1801.06146), for transformers as in BEiT
    (arXiv:2106.08254).

    Raises:
        TrainingError: Layers are to differ, and the network does not say what its layers are.
    """
    spared = model.no_weight_decay() if hasattr(model, "no_weight_decay") else set()  # type: ignore[operator]
    layers = layers_of(model) if layer_decay != 1 else (("",),)
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decayed = parameter.ndim > 1 and name not in spared
            groups.setdefault((_layer_of(name, layers), not decayed), []).append(parameter)
    return [
        {
            "params": groups[layer, plain],
            "weight_decay": 0.0 if plain else weight_decay,
            "lr_scale": layer_decay ** (len(layers) - 1 - layer),
        }
        for layer, plain in sorted(groups)
    ]


def layers_of(model: nn.Module) -> tuple[tuple[str, ...], ...]:
    """The layers from the images to the logits, each as the names of its parameters and modules.

    Raises:
        TrainingError: The network does not say.
    """
    layers = getattr(model, "layers", None)
    if isinstance(layers, tuple) and all(isinstance(layer, tuple) for layer in layers):
        return layers
    what = "train.layer_decay: the network does not tell its layers in their order"
    raise TrainingError(what, 'give it an attribute such as layers = (("stem",), ("blocks.0",), ("head",)), or leave layer_decay out')


def _layer_of(name: str, layers: tuple[tuple[str, ...], ...]) -> int:
    for number, prefixes in enumerate(layers):
        if any(below(name, prefix) for prefix in prefixes):
            return number
    raise TrainingError(f"train.layer_decay: {name} is in none of the layers that the network tells")
