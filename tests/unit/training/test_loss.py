"""The loss and what is counted, against formulas written out."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from orchestrator.training.loss import Targets, count_hits, training_loss, weigh_classes

LOGITS = torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3], [1.2, 0.2, 3.0], [0.0, 0.0, 0.0]])
LABELS = torch.tensor([0, 2, 2, 1])
OTHERS = torch.tensor([2, 1, 0, 1])
WEIGHTS = (0.5, 2.0, 3.0)


def by_hand(labels: torch.Tensor, weights: tuple[float, ...], smoothing: float) -> float:
    """Mean over the images of the weighted cross entropy against smoothed one-hot targets."""
    total = 0.0
    for logits, label in zip(LOGITS.tolist(), labels.tolist(), strict=True):
        whole = math.log(sum(math.exp(value) for value in logits))
        for number, value in enumerate(logits):
            target = smoothing / 3 + (1 - smoothing) * (number == label)
            total += weights[number] * target * (whole - value)
    return total / len(LOGITS)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("share", [1.0, 0.3])
def test_the_loss_is_the_formula(weights: tuple[float, ...] | None, smoothing: float, share: float) -> None:
    """With and without class weights, smoothing and mixing."""
    targets = Targets(LABELS) if share == 1 else Targets(LABELS, OTHERS, share)
    found = training_loss(LOGITS, targets, None if weights is None else torch.tensor(weights), smoothing)
    used = weights or (1.0, 1.0, 1.0)
    expected = share * by_hand(LABELS, used, smoothing) + (1 - share) * by_hand(OTHERS, used, smoothing)
    assert float(found) == pytest.approx(expected, rel=1e-6)


def test_class_weights_are_torchs_up_to_the_divisor() -> None:
    """Torch divides by the weights of the images that happen to be in the batch; times their mean it is the same."""
    weights = torch.tensor(WEIGHTS)
    torchs = functional.cross_entropy(LOGITS, LABELS, weight=weights)
    assert float(training_loss(LOGITS, Targets(LABELS), weights, 0.0)) == pytest.approx(float(torchs * weights[LABELS].mean()))


def test_the_mean_over_parts_is_the_mean_of_the_whole() -> None:
    """With class weights too, halves of a batch average to the batch: accumulation changes nothing."""
    weights = torch.tensor(WEIGHTS)
    halves = [training_loss(LOGITS[part], Targets(LABELS[part]), weights, 0.1) for part in (slice(2), slice(2, 4))]
    assert float(sum(halves)) / 2 == pytest.approx(float(training_loss(LOGITS, Targets(LABELS), weights, 0.1)))


def test_balanced_weights_make_classes_count_alike() -> None:
    """Rows times weight is the same for every class, the mean over all images is 1, and a class without images weighs nothing."""
    weights = weigh_classes("balanced", ("a", "b", "c", "d"), (10, 30, 0, 60))
    assert weights == pytest.approx((100 / 30, 100 / 90, 0, 100 / 180))
    assert sum(weight * rows for weight, rows in zip(weights or (), (10, 30, 0, 60), strict=True)) == pytest.approx(100)


def test_named_weights_leave_the_others_at_one() -> None:
    """And `none` is no weighting at all."""
    assert weigh_classes({"b": 4.0}, ("a", "b"), (0, 0)) == (1.0, 4.0)
    assert weigh_classes("none", ("a", "b"), (0, 0)) is None


def test_hits_of_mixed_images_count_by_shares() -> None:
    """The first image is right by its own label, the second by its partner's, the third by its own; the fourth says class 0."""
    assert float(count_hits(LOGITS, Targets(LABELS))) == 2
    assert float(count_hits(LOGITS, Targets(LABELS, OTHERS, 0.75))) == pytest.approx(2 * 0.75 + 0.25)
