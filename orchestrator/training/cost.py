"""What a network costs, counted on tensors without storage: nothing is computed and no memory is taken."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from orchestrator.errors import TrainingError
from orchestrator.plan.values import ModelFacts
from orchestrator.spec.model import ModelSpec
from orchestrator.training.freeze import freeze_layers
from orchestrator.training.groups import parameter_groups
from orchestrator.training.models import build_model, check_logits, count_parameters
from orchestrator.training.weights import StartWeights, new_head

IMAGES = 2
"""Images that are counted; batch normalisation does not take one alone."""


def model_facts(
    spec: ModelSpec, weights: StartWeights | None, *, num_classes: int, in_channels: int, image_size: int, layer_decay: float = 1.0
) -> ModelFacts:
    """Build a network without storage, and count.

    Raises:
        TrainingError: The network cannot be had, does not take such images, its weights do not fit, nothing of it is trained, or its
            layers are to learn at rates of their own and it does not tell them.
    """
    with torch.device("meta"):
        model = build_model(spec, num_classes=num_classes, in_channels=in_channels, image_size=image_size)
    head = new_head(model, weights, num_classes) if weights else ""
    still = freeze_layers(model, spec, num_classes)
    groups = parameter_groups(model, weight_decay=0.0, layer_decay=layer_decay)
    model.train()
    for module in still:
        module.eval()
    images = torch.empty(IMAGES, in_channels, image_size, image_size, device="meta")
    try:
        flops, kept = _count(model, images, num_classes, spec.label)
    except TrainingError:
        raise
    except Exception as error:
        sizes = f"{in_channels} x {image_size} x {image_size}"
        raise TrainingError(
            f"{spec.label} does not take images of {sizes}: {type(error).__name__}: {' '.join(str(error).split())}"
        ) from error
    return ModelFacts(
        parameters=count_parameters(model),
        trained=sum(parameter.numel() for group in groups for parameter in group["params"]),
        state_bytes=sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers())),
        image_flops=flops // IMAGES,
        image_bytes=kept // IMAGES,
        weights_sha256=weights.sha256 if weights else "",
        new_head=head,
    )


def _count(model: nn.Module, images: Tensor, num_classes: int, label: str) -> tuple[int, int]:
    """Floating-point operations of a forward pass, and bytes that it keeps for the backward pass besides the parameters."""
    kept: dict[int, Any] = {}
    parameters = {parameter.untyped_storage()._cdata for parameter in model.parameters()}  # noqa: SLF001 -- what tells storages apart

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in parameters:  # noqa: SLF001
            kept[storage._cdata] = storage  # noqa: SLF001 -- held, so that no other storage gets its number
        return tensor

    counter = FlopCounterMode(display=False)
    with counter, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = model(images)
    check_logits(logits, len(images), num_classes, label)
    return counter.get_total_flops(), sum(storage.nbytes() for storage in kept.values())
