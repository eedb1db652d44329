"""MixUp (Zhang et al. 2017, arXiv:1710.09412) and CutMix (Yun et al. 2019, arXiv:1905.04899) inside one micro-batch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from orchestrator.spec.train import TrainSpec


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels, ends excluded."""

    top: int
    bottom: int
    left: int
    right: int


@dataclass(frozen=True)
class Mix:
    """How the images of a micro-batch are combined: image i with image `partners[i]`."""

    share: float
    """Of the first image, in its pixels and in its label; the rest is the partner's."""
    partners: NDArray[np.int64]
    """(M,), a permutation."""
    box: Box | None
    """CutMix: where the partner shows; absent with MixUp, where it shines through everywhere."""


def draw_mix(spec: TrainSpec, rng: np.random.Generator, shape: tuple[int, int, int]) -> Mix | None:
    """Decide how a micro-batch is mixed; None where it stays as it is.

    Args:
        spec: `mixup`, `cutmix` and `mix_share`.
        rng: All the randomness there is.
        shape: Images, height and width.
    """
    rows, height, width = shape
    kinds = [alpha for alpha in (spec.mixup, spec.cutmix) if alpha]
    if not kinds or rng.random() >= spec.mix_share:
        return None
    cuts = bool(spec.cutmix) and (not spec.mixup or rng.random() < 0.5)  # noqa: PLR2004 -- either one as often
    alpha = spec.cutmix if cuts else spec.mixup
    share = float(rng.beta(alpha, alpha))
    partners = rng.permutation(rows)
    if not cuts:
        return Mix(share, partners, None)
    box = draw_box(rng, share, height, width)
    hidden = (box.bottom - box.top) * (box.right - box.left)
    return Mix(1 - hidden / (height * width), partners, box)


def draw_box(rng: np.random.Generator, share: float, height: int, width: int) -> Box:
    """A rectangle of the image's proportions and `1 - share` of its area around a random pixel; what is outside is cut off."""
    side = math.sqrt(1 - share)
    middle_y, middle_x = int(rng.integers(height)), int(rng.integers(width))
    half_y, half_x = int(height * side) // 2, int(width * side) // 2
    return Box(max(0, middle_y - half_y), min(height, middle_y + half_y), max(0, middle_x - half_x), min(width, middle_x + half_x))


def mix_images(images: Tensor, mix: Mix) -> Tensor:
    """Images (M, C, H, W) of floats, mixed; the ones given stay as they are."""
    others = images[torch.from_numpy(mix.partners).to(images.device)]
    if mix.box is None:
        return others.lerp_(images, mix.share)
    box, mixed = mix.box, images.clone()
    inside = (..., slice(box.top, box.bottom), slice(box.left, box.right))
    mixed[inside] = others[inside]
    return mixed
