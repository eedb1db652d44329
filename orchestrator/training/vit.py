"""Vision transformers: Dosovitskiy et al. 2021 (arXiv:2010.11929), in the sizes of DeiT (arXiv:2012.12877).

Parameters are named as in timm, so that its weight files for the same image and patch size fit vit_tiny and vit_small.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

PATCH_MAX = 16
"""Side of the patches of the papers, in pixels; larger ones only where there would be too many."""
SIDE_MIN, SIDE_MAX = 7, 32
"""Patches along a side: fewer tell too little about places, more cost too much."""


@dataclass(frozen=True)
class Layout:
    """What tells one transformer from another."""

    width: int
    depth: int
    heads: int


LAYOUTS = {"vit_tiny": Layout(192, 12, 3), "vit_small": Layout(384, 12, 6)}


def patch_size(image_size: int) -> int | None:
    """Side of the patches for images of a side, in pixels: 16 for 224, 4 for 32; nothing when no size divides the image well."""
    fitting = [side for side in range(1, image_size + 1) if image_size % side == 0 and SIDE_MIN <= image_size // side <= SIDE_MAX]
    usual = [side for side in fitting if side <= PATCH_MAX]
    return max(usual) if usual else min(fitting, default=None)


class Attention(nn.Module):
    """Self-attention of all tokens with all."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        images, tokens, width = x.shape
        queries, keys, values = self.qkv(x).reshape(images, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(queries, keys, values)
        return self.proj(mixed.transpose(1, 2).reshape(images, tokens, width))  # type: ignore[no-any-return]


class Mlp(nn.Module):
    """Two layers on every token; four times as wide between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(x)))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Attention and an MLP, each normalised before and with a shortcut."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]


class Patches(nn.Module):
    """(N, C, H, W) to one token a patch: (N, patches, width)."""

    def __init__(self, in_channels: int, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, width, patch, patch)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)  # type: ignore[no-any-return]


class VisionTransformer(nn.Module):
    """Float images (N, C, H, W) of one size to logits (N, classes)."""

    def __init__(self, layout: Layout, *, image_size: int, patch: int, in_channels: int, num_classes: int) -> None:
        super().__init__()
        width = layout.width
        self.patch_embed = Patches(in_channels, width, patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + (image_size // patch) ** 2, width))
        self.blocks = nn.Sequential(*(Block(width, layout.heads) for _ in range(layout.depth)))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, num_classes)
        self.layers = (
            ("cls_token", "pos_embed", "patch_embed"),
            *((f"blocks.{number}",) for number in range(layout.depth)),
            ("norm", "head"),
        )
        self._initialize()

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        return self.head(self.norm(self.blocks(x))[:, 0])  # type: ignore[no-any-return]

    def no_weight_decay(self) -> set[str]:
        """Parameters that are not decayed although they are no vectors."""
        return {"cls_token", "pos_embed"}

    def _initialize(self) -> None:
        """As in DeiT: weights and positions from a normal distribution cut at two standard deviations of 0.02, biases 0."""
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
