"""ConvNeXt: Liu et al. 2022 (arXiv:2201.03545), in two sizes of Wightman's.

Parameters are named as in timm, so that its weight files fit convnext_femto and convnext_nano.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

SHORTENED_BY = 8
"""Factor between the sides of the image after the stem and after the last stage."""


@dataclass(frozen=True)
class Layout:
    """What tells one ConvNeXt from another."""

    blocks: tuple[int, ...]
    """Blocks in each stage."""
    widths: tuple[int, ...]


LAYOUTS = {
    "convnext_femto": Layout((2, 2, 6, 2), (48, 96, 192, 384)),
    "convnext_nano": Layout((2, 2, 8, 2), (80, 160, 320, 640)),
}


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of (N, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class Mlp(nn.Module):
    """Two 1x1 convolutions; four times as wide between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(width, 4 * width, 1)
        self.fc2 = nn.Conv2d(4 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(x)))  # type: ignore[no-any-return]


class Block(nn.Module):
    """A 7x7 convolution of each channel, an MLP across channels, and a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = ChannelNorm(width)
        self.mlp = Mlp(width)
        self.gamma = nn.Parameter(torch.full((width,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.norm(self.conv_dw(x))) * self.gamma.reshape(1, -1, 1, 1)  # type: ignore[no-any-return]


class Stage(nn.Module):
    """Half the resolution where the stage before had another width, then blocks."""

    def __init__(self, inputs: int, width: int, count: int) -> None:
        super().__init__()
        self.downsample = nn.Identity() if inputs == width else nn.Sequential(ChannelNorm(inputs), nn.Conv2d(inputs, width, 2, 2))
        self.blocks = nn.Sequential(*(Block(width) for _ in range(count)))

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.downsample(x))  # type: ignore[no-any-return]


class Head(nn.Module):
    """The mean over the image, normalised, to logits."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.fc = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.norm(x.mean((2, 3))))  # type: ignore[no-any-return]


class ConvNeXt(nn.Module):
    """Float images (N, C, H, W) to logits (N, classes)."""

    def __init__(self, layout: Layout, *, small_stem: bool, in_channels: int, num_classes: int) -> None:
        super().__init__()
        patch, inputs = stem_patch(small=small_stem), layout.widths[0]
        self.stem = nn.Sequential(nn.Conv2d(in_channels, inputs, patch, patch), ChannelNorm(inputs))
        stages: list[Stage] = []
        layers: list[tuple[str, ...]] = [("stem",)]
        for number, (count, width) in enumerate(zip(layout.blocks, layout.widths, strict=True)):
            stages.append(Stage(inputs, width, count))
            names = [f"stages.{number}.blocks.{at}" for at in range(count)]
            layers += [(f"stages.{number}.downsample", names[0]), *((name,) for name in names[1:])]
            inputs = width
        self.stages = nn.Sequential(*stages)
        self.head = Head(inputs, num_classes)
        self.layers = (*layers, ("head",))
        self._initialize()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stages(self.stem(x)))  # type: ignore[no-any-return]

    def _initialize(self) -> None:
        """As in the paper: weights from a normal distribution cut at two standard deviations of 0.02, biases 0."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


def stem_patch(*, small: bool) -> int:
    """Side of the patches that the stem takes, in pixels."""
    return 2 if small else 4
