"""Predictions of a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import torch
from torch import nn

from orchestrator.training.batch import Batch
from orchestrator.training.metrics import Predictions
from orchestrator.training.normalise import to_device

TOP = 5
NOTHING = Predictions(
    ids=np.empty((0, 16), np.uint8),
    labels=np.empty(0, np.int64),
    predicted=np.empty(0, np.int64),
    probability=np.empty(0, np.float32),
    label_probability=np.empty(0, np.float32),
    in_top5=np.empty(0, np.bool_),
    loss=np.empty(0, np.float32),
)


@torch.inference_mode()
def predict_batch(model: nn.Module, normalize: nn.Module, batch: Batch, device: torch.device) -> Predictions:
    """Predict every image of a batch; the softmax is taken in float32."""
    if not len(batch.labels):
        return NOTHING
    logits = model(normalize(to_device(batch.images, device))).float()
    log_probabilities = torch.log_softmax(logits, dim=1).cpu()
    labels = torch.from_numpy(batch.labels.copy())
    best, predicted = log_probabilities.max(dim=1)
    of_label = log_probabilities.gather(1, labels[:, None])[:, 0]
    better = (log_probabilities > of_label[:, None]).sum(dim=1)
    return Predictions(
        ids=batch.ids.copy(),
        labels=batch.labels.copy(),
        predicted=predicted.numpy(),
        probability=best.exp().numpy(),
        label_probability=of_label.exp().numpy(),
        in_top5=(better < TOP).numpy(),
        loss=(-of_label).numpy(),
    )


def concatenate(parts: Sequence[Predictions]) -> Predictions:
    """One after the other."""
    return Predictions(
        **{field.name: np.concatenate([getattr(part, field.name) for part in (NOTHING, *parts)]) for field in fields(NOTHING)}
    )
