"""The optimiser and the course of the learning rate."""

from __future__ import annotations

import math

import torch
from torch import nn

from orchestrator.spec.job import TrainSpec
from orchestrator.training.groups import parameter_groups


def build_optimizer(model: nn.Module, spec: TrainSpec) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, or AdamW."""
    groups = parameter_groups(model, weight_decay=spec.weight_decay, layer_decay=spec.layer_decay)
    if spec.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=spec.lr)
    return torch.optim.SGD(groups, lr=spec.lr, momentum=spec.momentum, nesterov=spec.momentum > 0)


def learning_rate(step: int, total_steps: int, spec: TrainSpec) -> float:
    """The rate of a global step, counted from 0: a straight rise over the warm-up, then half a cosine to 0, or constant."""
    warmup = int(spec.warmup * total_steps)
    if step < warmup:
        return spec.lr * (step + 1) / warmup
    if spec.schedule == "constant":
        return spec.lr
    return spec.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total_steps - warmup)))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]
