"""Metrics from predictions alone, so that they do not depend on who predicted what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.errors import TrainingError

CALIBRATION_BINS = 15
TOP5_CLASSES_MIN = 6


@dataclass(frozen=True)
class Predictions:
    """One entry an image in every array."""

    ids: NDArray[np.uint8]
    """(N, 16)."""
    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    probability: NDArray[np.float32]
    """Of the predicted class."""
    label_probability: NDArray[np.float32]
    in_top5: NDArray[np.bool_]
    loss: NDArray[np.float32]
    """Cross entropy, in nats."""

    def take(self, order: NDArray[np.intp]) -> Predictions:
        return Predictions(**{field.name: getattr(self, field.name)[order] for field in fields(self)})


def sort_by_id(predictions: Predictions) -> Predictions:
    return predictions.take(np.lexsort(predictions.ids.T[::-1]))


def check_complete(predictions: Predictions, expected_rows: int) -> None:
    """Raises:
    TrainingError: An image was not predicted, or predicted twice.
    """
    rows, different = len(predictions.ids), len(np.unique(predictions.ids, axis=0))
    if rows != expected_rows or different != rows:
        raise TrainingError(
            f"{expected_rows:,} images were to be predicted once each, but there are {rows:,} predictions of {different:,} images"
        )


def summarize(predictions: Predictions, classes: Sequence[str], split: str) -> dict[str, Any]:
    """The content of metrics.json.

    Precision, recall and F1 are 0 where they are undefined. `ece` is the expected calibration error (Guo et al. 2017,
    arXiv:1706.04599) over 15 equal bins. `confusion` has a row for each true class.
    """
    ordered = sort_by_id(predictions)
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(confusion, (ordered.labels, ordered.predicted), 1)
    per_class = [_class_metrics(confusion, number, name) for number, name in enumerate(classes)]
    present = [entry for entry in per_class if entry["support"]]
    return {
        "split": split,
        "rows": len(ordered.labels),
        "accuracy": float((ordered.labels == ordered.predicted).mean()),
        "top5": float(ordered.in_top5.mean()) if len(classes) >= TOP5_CLASSES_MIN else None,
        "loss": float(ordered.loss.astype(np.float64).mean()),
        "macro_f1": float(np.mean([entry["f1"] for entry in present])),
        "balanced_accuracy": float(np.mean([entry["recall"] for entry in present])),
        "ece": _calibration_error(ordered),
        "per_class": per_class,
        "confusion": confusion.tolist(),
    }


def _class_metrics(confusion: NDArray[np.int64], number: int, name: str) -> dict[str, Any]:
    hits, support, claimed = int(confusion[number, number]), int(confusion[number].sum()), int(confusion[:, number].sum())
    return {
        "name": name,
        "precision": hits / claimed if claimed else 0.0,
        "recall": hits / support if support else 0.0,
        "f1": 2 * hits / (support + claimed) if support + claimed else 0.0,
        "support": support,
    }


def _calibration_error(predictions: Predictions) -> float:
    """Mean distance between confidence and accuracy over the bins, weighted by their images."""
    probability = predictions.probability.astype(np.float64)
    right = (predictions.labels == predictions.predicted).astype(np.float64)
    bins = np.minimum((probability * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    gaps = np.bincount(bins, right - probability, CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(right))
