"""Predictions of a network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields

import numpy as np
import torch
from torch import Tensor, nn

from orchestrator.training.batch import Batch
from orchestrator.training.metrics import Predictions
from orchestrator.training.transfer import Transfer, from_device

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


def predict_batches(model: nn.Module, normalize: nn.Module, batches: Iterable[Batch], device: torch.device) -> Iterator[Predictions]:
    """Predict every image of each batch that has any; the softmax is taken in float32.

    The answer of a batch is read when the next one has been sent: a GPU has something to do meanwhile.
    """
    transfer = Transfer(device)
    asked: tuple[Batch, Callable[[], Tensor]] | None = None
    for batch in batches:
        if not len(batch.labels):
            continue
        now = batch, _ask(model, normalize, batch, transfer)
        if asked is not None:
            yield _answer(*asked)
        asked = now
    if asked is not None:
        yield _answer(*asked)


@torch.inference_mode()
def _ask(model: nn.Module, normalize: nn.Module, batch: Batch, transfer: Transfer) -> Callable[[], Tensor]:
    """What gives the logarithms of the probabilities (M, classes), float32, when the device has them."""
    images, _ = transfer.receive(transfer.send(batch))
    return from_device(torch.log_softmax(model(normalize(images)).float(), dim=1))


@torch.inference_mode()
def _answer(batch: Batch, asked: Callable[[], Tensor]) -> Predictions:
    log_probabilities = asked()
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
