"""What training minimises, and what it counts, for labels that may be mixed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from orchestrator.training.mixing import Mix


@dataclass(frozen=True)
class Targets:
    """What the images of a micro-batch show: `labels`, or a share of them and for the rest their partners' labels."""

    labels: Tensor
    """(M,)."""
    others: Tensor | None = None
    """(M,), where images are mixed."""
    share: float = 1.0
    """Of `labels`."""


def make_targets(labels: Tensor, mix: Mix | None) -> Targets:
    if mix is None:
        return Targets(labels)
    return Targets(labels, labels[torch.from_numpy(mix.partners).to(labels.device)], mix.share)


def weigh_classes(asked: str | Mapping[str, float], classes: Sequence[str], rows: Sequence[int]) -> tuple[float, ...] | None:
    """The weight of each class in the loss; None where all are alike.

    Args:
        asked: `none`, `balanced`, or weights by the names of classes.
        classes: Their names.
        rows: Training images of each class; those of a class without any weigh nothing when balanced.
    """
    if isinstance(asked, Mapping):
        return tuple(asked.get(name, 1.0) for name in classes)
    if asked == "none":
        return None
    present = sum(count > 0 for count in rows)
    return tuple(sum(rows) / (present * count) if count else 0.0 for count in rows)


def training_loss(logits: Tensor, targets: Targets, weights: Tensor | None, smoothing: float) -> Tensor:
    """Cross entropy, in nats, added over the images and divided by their number.

    Not divided by the sum of the weights, as torch does: that sum is another one in every micro-batch, and the mean over
    micro-batches would not be the mean over the step.
    """
    logits = logits.float()
    loss = _cross_entropy(logits, targets.labels, weights, smoothing)
    if targets.others is None:
        return loss
    return targets.share * loss + (1 - targets.share) * _cross_entropy(logits, targets.others, weights, smoothing)


def _cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
    if weights is None:
        return functional.cross_entropy(logits, labels, label_smoothing=smoothing)
    return functional.cross_entropy(logits, labels, weight=weights, label_smoothing=smoothing, reduction="sum") / len(labels)


def count_hits(logits: Tensor, targets: Targets) -> Tensor:
    """Images whose most likely class is right; of mixed ones each label counts by its share."""
    predicted = logits.argmax(1)
    hits = (predicted == targets.labels).sum()
    if targets.others is None:
        return hits
    return targets.share * hits + (1 - targets.share) * (predicted == targets.others).sum()
