"""MixUp and CutMix, against references written by hand, and their randomness."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from orchestrator.spec.train import TrainSpec
from orchestrator.training.chance import Place, generator
from orchestrator.training.loss import make_targets
from orchestrator.training.mixing import Box, Mix, draw_box, draw_mix, mix_images

SHAPE = (6, 8, 10)
"""Images, height, width."""


def draws(spec: TrainSpec, count: int) -> list[Mix]:
    found = [draw_mix(spec, generator(0, Place(0, step, 0), "mix"), SHAPE) for step in range(count)]
    return [mix for mix in found if mix is not None]


def random_images() -> torch.Tensor:
    return torch.randn(SHAPE[0], 3, *SHAPE[1:], generator=torch.Generator().manual_seed(1))


def test_mixup_is_the_weighted_sum() -> None:
    """share x image + (1 - share) x partner, pixel by pixel, and labels in the same shares."""
    (mix,) = draws(TrainSpec(mixup=0.4), 1)
    images = random_images()
    before = images.clone()
    expected = np.empty(images.shape, np.float32)
    for place, partner in enumerate(mix.partners):
        expected[place] = mix.share * before[place].numpy() + (1 - mix.share) * before[partner].numpy()
    torch.testing.assert_close(mix_images(images, mix), torch.from_numpy(expected))
    assert torch.equal(images, before)

    targets = make_targets(torch.arange(6), mix)
    assert targets.others is not None
    assert (targets.others.tolist(), targets.share) == (mix.partners.tolist(), mix.share)


def test_cutmix_pastes_a_rectangle_of_the_partner() -> None:
    """Inside the box the partner, outside the image; the label's share is the area that is left, exactly."""
    for mix in draws(TrainSpec(cutmix=1.0), 20):
        box, images = mix.box, random_images()
        assert box is not None
        mixed, expected, kept = mix_images(images, mix), images.clone(), 0
        for y in range(SHAPE[1]):
            for x in range(SHAPE[2]):
                inside = box.top <= y < box.bottom and box.left <= x < box.right
                kept += not inside
                if inside:
                    expected[:, :, y, x] = images[mix.partners, :, y, x]
        assert torch.equal(mixed, expected)
        assert mix.share == pytest.approx(kept / 80)


def test_boxes_are_those_of_the_paper() -> None:
    """Sides are sqrt(1 - share) of the image's, around a pixel drawn from all, cut off at the borders."""
    for share in (0.0, 0.3, 0.75, 1.0):
        rng, again = generator(3, Place(0, 0, 0), "box"), generator(3, Place(0, 0, 0), "box")
        y, x = int(again.integers(32)), int(again.integers(64))
        half_y, half_x = int(32 * math.sqrt(1 - share)) // 2, int(64 * math.sqrt(1 - share)) // 2
        expected = Box(max(y - half_y, 0), min(y + half_y, 32), max(x - half_x, 0), min(x + half_x, 64))
        assert draw_box(rng, share, 32, 64) == expected


def test_shares_follow_the_beta_distribution() -> None:
    """Of Beta(0.4, 0.4): mean 1/2 and variance 1 / (4 x 1.8), within four standard errors of two thousand draws."""
    shares = np.array([mix.share for mix in draws(TrainSpec(mixup=0.4), 2000)])
    variance = 1 / (4 * 1.8)
    assert abs(shares.mean() - 0.5) < 4 * math.sqrt(variance / 2000)
    assert abs(shares.var() - variance) < 0.02


def test_both_kinds_take_turns_by_chance() -> None:
    """With both alphas given half of the micro-batches get a box; with a share of 0.25 a quarter is mixed at all."""
    both = draws(TrainSpec(mixup=0.2, cutmix=1.0), 1000)
    assert 430 < sum(mix.box is not None for mix in both) < 570
    assert 190 < len(draws(TrainSpec(mixup=0.2, mix_share=0.25), 1000)) < 310
    assert draws(TrainSpec(), 10) == draws(TrainSpec(mixup=1.0, mix_share=0.0), 10) == []


def test_randomness_belongs_to_the_place() -> None:
    """The same seed, epoch, step and part give the same numbers; any other one, and any other purpose, gives others."""
    first = generator(0, Place(1, 2, 3), "mix").random(4).tolist()
    assert generator(0, Place(1, 2, 3), "mix").random(4).tolist() == first
    others = [(1, Place(1, 2, 3)), (0, Place(0, 2, 3)), (0, Place(1, 0, 3)), (0, Place(1, 2, 0)), (0, Place(12, 3, 3))]
    assert all(generator(seed, place, "mix").random(4).tolist() != first for seed, place in others)
    assert generator(0, Place(1, 2, 3), "other").random(4).tolist() != first
