"""From stored pixels to what a network takes, on the device of the network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Normalize(nn.Module):
    """uint8 (N, H, W, C) to float32 (N, C, H, W): scaled to 0..1, then shifted and scaled for each channel.

    With `channels_last` the values stay where they are in memory, and only the shape is another one.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], *, channels_last: bool = False) -> None:
        super().__init__()
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        self.register_buffer("scale", 1 / (255 * torch.tensor(std, dtype=torch.float32)))
        self.register_buffer("shift", -torch.tensor(mean, dtype=torch.float32) / torch.tensor(std, dtype=torch.float32))

    def forward(self, images: Tensor) -> Tensor:
        return (images.float() * self.scale + self.shift).permute(0, 3, 1, 2).contiguous(memory_format=self._format)  # type: ignore[operator]
