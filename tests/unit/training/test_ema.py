"""The running average of the weights, against a loop over numpy arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from conftest import EPOCHS, NEVER, STEPS, Events, StopAfter, make_feed, make_work
from torch import nn

from orchestrator.training.checkpoint import CheckpointStore
from orchestrator.training.ema import WeightAverage
from orchestrator.training.export import load_model
from orchestrator.training.loop import train_worker
from orchestrator.training.models import build_model
from orchestrator.training.pulse import Pulse
from orchestrator.training.timing import Sums
from orchestrator.training.trainer import Trainer
from orchestrator.training.weights import StartWeights


def test_the_average_is_the_textbook_one() -> None:
    """avg = d avg + (1 - d) w with d = min(decay, (1 + t) / (10 + t)), for weights and batch statistics; counters are copied."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    average = WeightAverage(model, 0.5)
    expected = {name: value.double().numpy() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    for step in range(1, 15):
        model(torch.randn(8, 3)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            counts = name.endswith("num_batches_tracked")
            expected[name] = value.numpy() if counts else decay * expected[name] + (1 - decay) * value.double().numpy()
    for name, value in average.model.state_dict().items():
        np.testing.assert_allclose(value.numpy(), expected[name], rtol=1e-5, atol=1e-7, err_msg=name)
    assert not any(parameter.requires_grad for parameter in average.model.parameters())


def test_the_average_is_what_is_validated_and_written(tmp_path: Path, events: Events) -> None:
    """The written model holds the averaged weights, its accuracy is what was reported, and training goes on with its own weights."""
    work = make_work(tmp_path, train={"ema": 0.9, "select": "last"})
    train_worker(work, make_feed(), StopAfter(NEVER), events)
    checkpoint = CheckpointStore(work.checkpoints).newest()
    assert checkpoint is not None
    written = load_model(work.model_folder)[0].state_dict()
    assert all(torch.equal(value, written[name]) for name, value in checkpoint.state["average"].items())
    assert not torch.equal(checkpoint.state["model"]["conv1.weight"], written["conv1.weight"])

    trainer = Trainer(work, Pulse())
    trainer.load_state_dict(checkpoint.state, checkpoint.position)
    trainer.begin_epoch(EPOCHS - 1)
    feed = list(make_feed(EPOCHS - 1))
    sums = Sums()
    trainer.validate_batch(iter(feed[STEPS:]), 0, sums)
    last = events.named("EpochFinished")[-1]
    assert trainer.means_across(sums) == (last["validation_loss"], last["validation_accuracy"])


def test_the_average_begins_with_the_weights_that_training_begins_with(tmp_path: Path, events: Events) -> None:
    """Weights from a file, and a step that hardly moves them: after it the average is near them, not near the random ones."""
    work = make_work(tmp_path, train={"ema": 0.9, "lr": 1e-9})
    torch.manual_seed(7)
    start = build_model(work.job.model, **work.sizes).state_dict()
    train_worker(work, make_feed(), StopAfter(1), events, lambda: StartWeights("file", "0", start))
    checkpoint = CheckpointStore(work.checkpoints).newest()
    assert checkpoint is not None
    for name in ("conv1.weight", "layer2.0.conv1.weight", "fc.weight"):
        torch.testing.assert_close(checkpoint.state["average"][name], start[name], atol=1e-5, rtol=0)


def test_frozen_statistics_are_found_in_the_average() -> None:
    """What is frozen in the model has its counterpart, which workers leave alone as well."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Sequential(nn.BatchNorm2d(2)), nn.BatchNorm2d(2))
    average = WeightAverage(model, 0.9)
    (found,) = average.counterparts([model[1][0]])
    assert found is average.model[1][0]  # type: ignore[index]


def test_without_averaging_the_weights_stay_what_they_were(tmp_path: Path, events: Events) -> None:
    """Averaging only looks on: the trained weights are the same bits with it and without."""
    plain, averaged = make_work(tmp_path / "plain"), make_work(tmp_path / "averaged", train={"ema": 0.9})
    for work in (plain, averaged):
        train_worker(work, make_feed(), StopAfter(NEVER), events)
    first, second = (CheckpointStore(work.checkpoints).newest() for work in (plain, averaged))
    assert first is not None
    assert second is not None
    assert all(torch.equal(value, second.state["model"][name]) for name, value in first.state["model"].items())
