"""The optimiser."""

from __future__ import annotations

import torch
from torch import nn

from orchestrator.spec.train import TrainSpec
from orchestrator.training.groups import parameter_groups


def build_optimizer(model: nn.Module, spec: TrainSpec) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, or AdamW; on GPUs a step is one kernel for many parameters."""
    groups = parameter_groups(model, weight_decay=spec.weight_decay, layer_decay=spec.layer_decay)
    fused = all(parameter.is_cuda for parameter in model.parameters()) or None
    if spec.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=spec.lr, fused=fused)
    return torch.optim.SGD(groups, lr=spec.lr, momentum=spec.momentum, nesterov=spec.momentum > 0, fused=fused)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]
