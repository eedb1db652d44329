"""Metrics come from predictions alone and agree with counting by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from conftest import make_batch
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import TrainingError
from orchestrator.training.batch import Phase
from orchestrator.training.metrics import Predictions, check_complete, sort_by_id, summarize
from orchestrator.training.predict import concatenate, predict_batches

CLASSES = ("a", "b", "c")


def make(rows: int, seed: int = 0, classes: int = 3) -> Predictions:
    rng = np.random.default_rng(seed)
    return Predictions(
        ids=rng.integers(0, 256, (rows, 16), dtype=np.uint8),
        labels=rng.integers(0, classes, rows),
        predicted=rng.integers(0, classes, rows),
        probability=rng.random(rows, dtype=np.float32),
        label_probability=rng.random(rows, dtype=np.float32),
        in_top5=rng.random(rows) < 0.8,
        loss=rng.random(rows, dtype=np.float32),
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(0, 5))
def test_metrics_agree_with_counting(rows: int, seed: int) -> None:
    """Accuracy, precision, recall, F1 and the confusion matrix, image by image; nothing is NaN."""
    predictions = make(rows, seed)
    metrics = summarize(predictions, CLASSES, "test")
    pairs = list(zip(predictions.labels.tolist(), predictions.predicted.tolist(), strict=True))
    assert metrics["accuracy"] == pytest.approx(sum(truth == guess for truth, guess in pairs) / rows)
    for number, entry in enumerate(metrics["per_class"]):
        hits = pairs.count((number, number))
        truths, guesses = sum(truth == number for truth, _ in pairs), sum(guess == number for _, guess in pairs)
        assert entry["support"] == truths
        assert entry["precision"] == pytest.approx(hits / guesses if guesses else 0)
        assert entry["recall"] == pytest.approx(hits / truths if truths else 0)
        precision, recall = entry["precision"], entry["recall"]
        assert entry["f1"] == pytest.approx(2 * precision * recall / (precision + recall) if hits else 0)
        assert metrics["confusion"][number] == [pairs.count((number, guess)) for guess in range(3)]
    json.dumps(metrics, allow_nan=False)


def test_the_order_of_the_predictions_does_not_matter() -> None:
    """Shuffled predictions give the same metrics, bit for bit."""
    predictions = make(101)
    shuffled = predictions.take(np.random.default_rng(1).permutation(101))
    assert summarize(shuffled, CLASSES, "test") == summarize(predictions, CLASSES, "test")
    np.testing.assert_array_equal(sort_by_id(shuffled).ids, sort_by_id(predictions).ids)


def test_calibration_error_of_known_cases() -> None:
    """Certain and right is 0; certain and always wrong is 1."""
    base = make(30)
    sure = np.ones(30, np.float32)
    right = Predictions(**{**base.__dict__, "predicted": base.labels, "probability": sure})
    wrong = Predictions(**{**base.__dict__, "predicted": (base.labels + 1) % 3, "probability": sure})
    assert summarize(right, CLASSES, "test")["ece"] == 0
    assert summarize(wrong, CLASSES, "test")["ece"] == pytest.approx(1)


def test_top5_needs_more_than_five_classes() -> None:
    """With five classes or fewer it would always be 1, so it is left out."""
    assert summarize(make(20), CLASSES, "test")["top5"] is None
    assert summarize(make(20, classes=6), tuple("abcdef"), "test")["top5"] == pytest.approx(make(20, classes=6).in_top5.mean())


def test_every_image_once_is_checked() -> None:
    """A missing and a doubled image are errors that name the counts."""
    predictions = make(10)
    check_complete(predictions, 10)
    with pytest.raises(TrainingError, match="11 images were to be predicted once each, but there are 10"):
        check_complete(predictions, 11)
    with pytest.raises(TrainingError, match="10 predictions of 9 images"):
        check_complete(predictions.take(np.array([0, *range(9)])), 10)


def test_predictions_of_a_network_agree_with_torch() -> None:
    """Class, probabilities, loss and the top five, batch by batch in their order; a batch of no image gives nothing."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 9)).eval()
    normalize = torch.nn.Identity()
    batches = [make_batch(Phase.TEST, 0, step, rows, 3) for step, rows in enumerate((12, 0, 7))]
    model.register_forward_pre_hook(lambda _, inputs: (inputs[0].float() / 255,))
    answers = list(predict_batches(model, normalize, batches, torch.device("cpu")))
    assert [len(answer.labels) for answer in answers] == [12, 7]
    found = concatenate(answers)
    logits = model(torch.from_numpy(np.concatenate([batch.images for batch in batches])))
    labels = torch.from_numpy(np.concatenate([batch.labels for batch in batches]))
    np.testing.assert_array_equal(found.labels, labels)
    np.testing.assert_array_equal(found.ids, np.concatenate([batch.ids for batch in batches]))
    np.testing.assert_array_equal(found.predicted, logits.argmax(1).numpy())
    np.testing.assert_allclose(found.loss, torch.nn.functional.cross_entropy(logits, labels, reduction="none").detach(), rtol=1e-5)
    in_top5 = (logits.topk(5).indices == labels[:, None]).any(1)
    np.testing.assert_array_equal(found.in_top5, in_top5.numpy())

    assert not list(predict_batches(model, normalize, batches[1:2], torch.device("cpu")))
    assert len(concatenate([]).labels) == 0
