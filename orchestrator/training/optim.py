"""The optimiser."""

from __future__ import annotations

from typing import Any

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
    optimizer = torch.optim.SGD(groups, lr=spec.lr, momentum=spec.momentum, nesterov=spec.momentum > 0, fused=fused)
    _begin_with_no_momentum(optimizer)
    return optimizer


def _begin_with_no_momentum(optimizer: torch.optim.Optimizer) -> None:
    """Else fused SGD begins with memory as it lies there, which stays when fp16 overflows and the first step is left out."""
    for group in optimizer.param_groups:
        for parameter in group["params"] if group["fused"] and group.get("momentum") else ():
            if optimizer.state[parameter].get("momentum_buffer") is None:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Go on with a state that may come from another device: how the steps are computed stays as it suits this one."""
    ways = [{name: group[name] for name in ("fused", "foreach")} for group in optimizer.param_groups]
    groups = [saved | own for saved, own in zip(state["param_groups"], ways, strict=True)]
    optimizer.load_state_dict(state | {"param_groups": groups})
    _begin_with_no_momentum(optimizer)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]
