"""Networks by the names of the job file."""

from __future__ import annotations

from torch import nn

from orchestrator.spec.job import ModelSpec
from orchestrator.training.resnet import LAYOUTS, NORMS, ResNet


def build_model(spec: ModelSpec, *, num_classes: int, in_channels: int) -> nn.Module:
    """A network with random weights; the caller has seeded torch."""
    return ResNet(LAYOUTS[spec.name], NORMS[spec.norm], in_channels=in_channels, num_classes=num_classes)


def count_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
