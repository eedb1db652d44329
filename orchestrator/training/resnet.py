"""Residual networks: He et al. 2015 (arXiv:1512.03385), with the stride on the 3x3 convolution of a bottleneck as torchvision has it.

Parameters are named as in torchvision, so that its weight files fit ResNet-18, 34 and 50.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Norm = Callable[[int], nn.Module]
GROUPS = 8


def group_norm(channels: int) -> nn.Module:
    """Group normalisation (arXiv:1803.08494): no statistics over the batch, so the result does not depend on how a batch is divided."""
    return nn.GroupNorm(min(GROUPS, channels), channels)


NORMS: dict[str, Norm] = {"batch": nn.BatchNorm2d, "group": group_norm}


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = norm(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = norm(width)
        self.downsample = make_shortcut(inputs, width, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))  # type: ignore[no-any-return]


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions and a shortcut; the output is four times as wide."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, norm: Norm) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = norm(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = norm(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = make_shortcut(inputs, outputs, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))  # type: ignore[no-any-return]


def make_shortcut(inputs: int, outputs: int, stride: int, norm: Norm) -> nn.Sequential | None:
    """A projection where the shape changes, nothing where it does not."""
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), norm(outputs))


@dataclass(frozen=True)
class Layout:
    """What tells one residual network from another."""

    block: type[BasicBlock | Bottleneck]
    blocks: tuple[int, ...]
    """Blocks in each stage."""
    widths: tuple[int, ...]


LAYOUTS = {
    "resnet8": Layout(BasicBlock, (1, 1, 1), (16, 32, 64)),
    "resnet20": Layout(BasicBlock, (3, 3, 3), (16, 32, 64)),
    "resnet18": Layout(BasicBlock, (2, 2, 2, 2), (64, 128, 256, 512)),
    "resnet34": Layout(BasicBlock, (3, 4, 6, 3), (64, 128, 256, 512)),
    "resnet50": Layout(Bottleneck, (3, 4, 6, 3), (64, 128, 256, 512)),
}


class ResNet(nn.Module):
    """Float images (N, C, H, W) to logits (N, classes)."""

    def __init__(self, layout: Layout, norm: Norm, *, small_stem: bool, in_channels: int, num_classes: int) -> None:
        """A small stem is one 3x3 convolution that keeps the resolution, instead of 7x7 with stride 2 and max-pooling."""
        super().__init__()
        inputs = layout.widths[0]
        kernel, stride = (3, 1) if small_stem else (7, 2)
        self.conv1 = nn.Conv2d(in_channels, inputs, kernel, stride, kernel // 2, bias=False)
        self.bn1 = norm(inputs)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if small_stem else nn.MaxPool2d(3, 2, 1)
        self.stages: list[str] = []
        for number, (count, width) in enumerate(zip(layout.blocks, layout.widths, strict=True), start=1):
            blocks = []
            for at in range(count):
                blocks.append(layout.block(inputs, width, 2 if number > 1 and at == 0 else 1, norm))
                inputs = width * layout.block.expansion
            self.stages.append(f"layer{number}")
            self.add_module(self.stages[-1], nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inputs, num_classes)
        blocks_of = zip(self.stages, layout.blocks, strict=True)
        self.layers = (("conv1", "bn1"), *((f"{name}.{at}",) for name, count in blocks_of for at in range(count)), ("fc",))
        self._initialize()

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for name in self.stages:
            x = self.get_submodule(name)(x)
        return self.fc(torch.flatten(self.avgpool(x), 1))  # type: ignore[no-any-return]

    def _initialize(self) -> None:
        """He initialisation, fan-out (arXiv:1502.01852)."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
