"""Several workers compute what one computes, and a group that does not is found out."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from conftest import EPOCHS, NEVER, STEPS, Events, StopAfter, assert_same_state, make_feed, make_work
from safetensors.torch import load_file
from spawned import join, leave, spawn
from torch.nn.parallel import DistributedDataParallel

from orchestrator.errors import TrainingError
from orchestrator.spec.model import ModelSpec
from orchestrator.training import trainer
from orchestrator.training.batch import Batch, Phase
from orchestrator.training.checkpoint import START, CheckpointStore, resume_position
from orchestrator.training.distributed import average_buffers, check_same_weights, has_idle_parameters, weights_sha256, wrap
from orchestrator.training.loop import train_worker
from orchestrator.training.models import build_model
from orchestrator.training.pulse import Pulse
from orchestrator.training.timing import Stopwatch
from orchestrator.training.transfer import Transfer
from orchestrator.training.weights import StartWeights
from orchestrator.training.work import Wish

MIXED = {"select": "last", "mixup": 0.4, "cutmix": 1.0, "ema": 0.8, "label_smoothing": 0.1, "clip_norm": 1.0}
PARTS = 4
"""Micro-batches of a step, however many workers take them."""


def train_rank(rank: int, workers: int, meeting: Path, place: Path) -> None:
    join(rank, workers, meeting)
    work = make_work(place, workers=workers, norm="group", train={"select": "last"})
    feed = make_feed(micro_batches=workers, rank=rank, workers=workers)
    train_worker(work, feed, StopAfter(NEVER), Events())
    leave()


def freeze_rank(rank: int, workers: int, meeting: Path, place: Path) -> None:
    join(rank, workers, meeting)
    train_worker(*frozen_training(place, workers, rank))
    leave()


def frozen_training(place: Path, workers: int, rank: int) -> tuple[Any, ...]:
    """Training that freezes the first layers, with batch statistics, from weights that every worker reads."""
    work = make_work(place, workers=workers, train={"select": "last"})
    model = ModelSpec(name="resnet8", weights="net", freeze=("conv1", "bn1", "layer1", "layer2", "layer3.0.conv1"))
    torch.manual_seed(7)
    start = StartWeights("net", "0", build_model(model, **work.sizes).state_dict())
    work = replace(work, job=work.job.model_copy(update={"model": model}))
    return work, make_feed(micro_batches=workers, rank=rank, workers=workers), StopAfter(NEVER), Events(), lambda: start


def mix_rank(rank: int, workers: int, meeting: Path, place: Path) -> None:
    """Four micro-batches a step for any number of workers, with everything that is random."""
    join(rank, workers, meeting)
    work = make_work(place, workers=workers, micro_batches=PARTS, norm="group", train=MIXED)
    train_worker(work, make_feed(micro_batches=PARTS, rank=rank, workers=workers), StopAfter(NEVER), Events())
    leave()


class WithIdleHead(torch.nn.Module):
    """A network of a user's, with a head that no loss comes from."""

    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten())
        self.head, self.idle = torch.nn.Linear(4 * 36, 2), torch.nn.Linear(4 * 36, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.head(self.body(images))
        return found


def idle_training(place: Path, workers: int, rank: int) -> tuple[Any, ...]:
    work = make_work(place, workers=workers, train={"select": "last"})
    work = replace(work, job=work.job.model_copy(update={"model": ModelSpec(entry="networks:with_idle_head")}))
    return work, make_feed(micro_batches=workers, rank=rank, workers=workers), StopAfter(NEVER), Events()


def idle_rank(rank: int, workers: int, meeting: Path, place: Path) -> None:
    join(rank, workers, meeting)
    trainer.build_model = lambda *_, **__: WithIdleHead()  # type: ignore[assignment]
    train_worker(*idle_training(place, workers, rank))
    leave()


def drawn_apart_rank(rank: int, workers: int, meeting: Path, place: Path) -> None:
    """Every worker draws other weights, as a network does that takes them from a generator of its own."""
    join(rank, workers, meeting)
    build = trainer.build_model

    def build_apart(*arguments: Any, **sizes: Any) -> torch.nn.Module:
        torch.manual_seed(rank)
        return build(*arguments, **sizes)

    trainer.build_model = build_apart
    work = make_work(place, workers=workers, norm="group", train={"select": "last", "ema": 0.8})
    train_worker(work, make_feed(micro_batches=workers, rank=rank, workers=workers), StopAfter(NEVER), Events())
    leave()


def unwrapped_rank(rank: int, workers: int, meeting: Path, place: Path) -> None:
    """The training of a run, but nobody averages the gradients."""
    join(rank, workers, meeting)
    trainer.wrap = lambda model, *_, **__: model  # type: ignore[assignment]
    work = make_work(place, workers=workers, norm="group")
    try:
        train_worker(work, make_feed(micro_batches=workers, rank=rank, workers=workers), StopAfter(NEVER), Events())
    except TrainingError as error:
        (place / f"found-{rank}").write_text(str(error))
    leave()


def resume_rank(rank: int, workers: int, meeting: Path, place: Path) -> None:
    """Batch statistics and the whole recipe: once without a break, once stopped in validation and in the middle of an epoch."""
    join(rank, workers, meeting)
    recipe = MIXED | {"precision": "fp16"}
    for name, stops in (("whole", (NEVER,)), ("parts", (STEPS + 1, 2, NEVER))):
        work = make_work(place / name, workers=workers, train=recipe)
        for stop in stops:
            dist.barrier()  # rank 0 has saved
            position = resume_position(work.checkpoints)
            dist.barrier()
            feed = make_feed(position.epoch, position.step, micro_batches=workers, rank=rank, workers=workers)
            train_worker(work, feed, StopAfter(stop), Events())
            if rank == 0 and stop == STEPS + 1:
                shutil.copytree(work.checkpoints, place / "in-validation")
    leave()


def leave_rank(rank: int, workers: int, meeting: Path, place: Path) -> None:
    """Only the last rank hears that it has to go."""
    join(rank, workers, meeting)
    work = make_work(place, workers=workers, norm="group")
    control = StopAfter(3 if rank == workers - 1 else NEVER, then=Wish.LEAVE)
    result = train_worker(work, make_feed(micro_batches=workers, rank=rank, workers=workers), control, Events())
    (place / f"ended-{rank}").write_text(result.ended_by.name)
    leave()


def diverge_rank(rank: int, workers: int, meeting: Path, place: Path) -> None:
    """A model that nobody wrapped: every worker trains its own."""
    join(rank, workers, meeting)
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    check_same_weights(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    model(torch.full((1, 3), float(rank + 1))).sum().backward()
    optimizer.step()
    try:
        check_same_weights(model)
    except TrainingError as error:
        (place / f"found-{rank}").write_text(str(error))
    leave()


def average_rank(rank: int, workers: int, meeting: Path, place: Path) -> None:
    join(rank, workers, meeting)
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2))
    for norm in model:
        norm.running_mean.fill_(float(rank))  # type: ignore[union-attr, operator]
    average_buffers(model, still=(model[1],))
    np.save(place / f"mean-{rank}.npy", np.stack([norm.running_mean.numpy() for norm in model]))  # type: ignore[union-attr, operator]
    leave()


def average_two_ways_rank(rank: int, workers: int, meeting: Path, place: Path) -> None:
    """The same steps with our exchange of gradients and with the one that DDP brings."""
    join(rank, workers, meeting)
    calls: list[int] = []
    for name in ("ours", "plain"):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(300, 300), torch.nn.ReLU(), torch.nn.Linear(300, 2))
        wrapped = wrap(model, torch.device("cpu"), lambda: calls.append(rank)) if name == "ours" else DistributedDataParallel(model)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for step in range(STEPS):
            with wrapped.no_sync():  # type: ignore[operator, union-attr]
                wrapped(torch.full((4, 300), 1.0 + rank)).square().sum().backward()
            wrapped(torch.linspace(rank, step, 1200).reshape(4, 300)).square().sum().backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        (place / f"{name}-{rank}").write_text(weights_sha256(model))
    (place / f"calls-{rank}").write_text(str(len(calls)))
    leave()


def wait_for_peer_rank(rank: int, workers: int, meeting: Path, place: Path) -> None:
    """From the second epoch on rank 1 takes its images when rank 0 has computed all gradients of the step."""
    join(rank, workers, meeting)
    work = make_work(place, workers=workers, norm="group", train={"select": "last"})
    switch, events, taken, late = Stopwatch.switch, Events(), [0.0], [0.0]
    switches: list[float] = []

    def noted(watch: Stopwatch, part: str | None) -> str | None:
        if part == "sync":  # twice in a step: after the last gradient, and to agree
            switches.append(time.perf_counter())
            (place / f"sync-{rank}-{len(switches)}").touch()
            if len(switches) % 2 and taken[0]:
                late.append(switches[-1] - taken[0])
        return switch(watch, part)

    def feed() -> Iterator[Batch]:
        for batch in make_feed(micro_batches=workers, rank=rank, workers=workers):
            if rank == 1 and batch.epoch and batch.phase is Phase.TRAIN:
                wait_for(place / f"sync-0-{2 * (batch.epoch * STEPS + batch.step) + 1}")
                taken[0] = time.perf_counter()
            yield batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stopwatch, "switch", noted)
        train_worker(work, feed(), StopAfter(NEVER), events)
    measured = [epoch["sync_s"] for epoch in events.named("EpochFinished")]
    (place / f"measured-{rank}.json").write_text(json.dumps({"sync": measured, "late": sum(late)}))
    leave()


def as_on_gpus_rank(rank: int, workers: int, meeting: Path, place: Path) -> None:
    """What a worker says it does while it reads the losses of a step, where the exchange of gradients may still be going on then, and
    while it agrees with its peer in validation.
    """
    join(rank, workers, meeting)
    said: list[str] = []
    agreed: list[str] = []
    pulse, read = Pulse(), torch.Tensor.tolist

    def noted(values: torch.Tensor) -> Any:
        if pulse.changes and values.dtype == torch.float64 and values.dim() == 2:
            said.append(pulse.doing)
        if pulse.validates and values.dtype == torch.int32:
            agreed.append(pulse.doing)
        return read(values)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Transfer, "overlaps", True)
        patch.setattr(torch.Tensor, "tolist", noted)
        work = make_work(place, workers=workers, norm="group", train={"select": "last"})
        feed = make_feed(micro_batches=workers, rank=rank, workers=workers)
        train_worker(work, feed, StopAfter(NEVER), Events(), pulse=pulse)
    (place / f"said-{rank}.json").write_text(json.dumps({"losses": said, "validation": agreed}))
    leave()


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.001)


def test_a_notice_to_any_worker_ends_training_on_all(tmp_path: Path) -> None:
    """Rank 1 alone has to go: both end after the same step, with a checkpoint of it."""
    spawn(leave_rank, 2, tmp_path / "two")
    assert [(tmp_path / "two" / f"ended-{rank}").read_text() for rank in (0, 1)] == ["LEAVE", "LEAVE"]
    assert resume_position(tmp_path / "two" / "checkpoints").global_step == 3


def test_two_workers_train_what_one_trains(tmp_path: Path) -> None:
    """Twelve steps of SGD at the same global batch, without batch statistics: parameters agree within 1e-5."""
    work = make_work(tmp_path / "one", norm="group", train={"select": "last"})
    train_worker(work, make_feed(), StopAfter(NEVER), Events())
    spawn(train_rank, 2, tmp_path / "two")
    alone = load_file(work.model_folder / "weights.safetensors")
    together = load_file(tmp_path / "two" / "model" / "weights.safetensors")
    for name, tensor in alone.items():
        torch.testing.assert_close(together[name], tensor, atol=1e-5, rtol=0)


def test_the_exchange_that_is_measured_gives_the_bits_of_the_one_that_is_not(tmp_path: Path) -> None:
    """Three workers, whose mean is no power of two: the same weights as with plain DDP; each exchange was noticed once on every worker."""
    spawn(average_two_ways_rank, 3, tmp_path / "group")
    found = {name: {(tmp_path / "group" / f"{name}-{rank}").read_text() for rank in range(3)} for name in ("ours", "plain", "calls")}
    assert len(found["ours"]) == 1
    assert found["ours"] == found["plain"]
    assert found["calls"] == {str(STEPS)}


def test_waiting_for_a_slower_worker_is_synchronising(tmp_path: Path) -> None:
    """A worker that has all its gradients counts the time until its peer, which begins only then, has its own."""
    spawn(wait_for_peer_rank, 2, tmp_path / "group")
    first, second = (json.loads((tmp_path / "group" / f"measured-{rank}.json").read_bytes()) for rank in (0, 1))
    assert second["late"] > 0
    assert sum(first["sync"][1:]) >= second["late"] - 0.001 * len(first["sync"])


def test_waiting_on_a_gpu_for_a_slower_worker_is_synchronising(tmp_path: Path) -> None:
    """There backward returns while gradients travel: a worker that waits for the losses may wait for its peer, and says so, because whoever
    watches blames a worker that computes for too long. So it is before each batch of validation images.
    """
    spawn(as_on_gpus_rank, 2, tmp_path / "group")
    for rank in (0, 1):
        said = json.loads((tmp_path / "group" / f"said-{rank}.json").read_bytes())
        assert said == {"losses": ["sync"] * (STEPS * EPOCHS), "validation": ["sync"] * EPOCHS}


def test_a_group_that_does_not_average_gradients_is_found_out(tmp_path: Path) -> None:
    """With a model that is not wrapped, every worker raises and names the ranks that differ."""
    spawn(diverge_rank, 2, tmp_path / "group")
    for rank in (0, 1):
        assert "ranks [1]" in (tmp_path / "group" / f"found-{rank}").read_text()


def test_frozen_layers_are_left_alone_by_a_group(tmp_path: Path) -> None:
    """Two workers exchange the gradients of what is trained; frozen weights and statistics keep their bits."""
    spawn(freeze_rank, 2, tmp_path / "group")
    trained = load_file(tmp_path / "group" / "model" / "weights.safetensors")
    start = frozen_training(tmp_path, 2, 0)[-1]().tensors
    frozen = {name for name, tensor in start.items() if torch.equal(trained[name], tensor)}
    expected = {name for name in start if name.startswith(("conv1.", "bn1.", "layer1.", "layer2.", "layer3.0.conv1."))}
    assert frozen == expected


def test_a_model_that_nobody_wrapped_never_becomes_a_result(tmp_path: Path) -> None:
    """The same in a whole training: it ends with the first epoch, on every worker, and leaves neither a model nor a checkpoint."""
    spawn(unwrapped_rank, 2, tmp_path / "group")
    for rank in (0, 1):
        assert "the workers diverged: ranks [1]" in (tmp_path / "group" / f"found-{rank}").read_text()
    assert not (tmp_path / "group" / "model").exists()
    assert resume_position(tmp_path / "group" / "checkpoints") == START


def test_parameters_that_no_loss_comes_from_are_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head of a user's network that is not used: two workers train what one trains, and that head stays as it was."""
    monkeypatch.setattr(trainer, "build_model", lambda *_, **__: WithIdleHead())
    torch.manual_seed(0)
    started = WithIdleHead().state_dict()
    train_worker(*idle_training(tmp_path / "one", 1, 0))
    spawn(idle_rank, 2, tmp_path / "two")
    alone, together = (load_file(tmp_path / name / "model" / "weights.safetensors") for name in ("one", "two"))
    for name in ("head.weight", "idle.weight"):
        assert torch.equal(together[name], started[name]) == name.startswith("idle")
        torch.testing.assert_close(together[name], alone[name], atol=1e-5, rtol=0)


def test_a_network_that_cannot_be_copied_is_taken_for_one_with_such_parameters() -> None:
    """It may hold anything, as a lock; it trains on several workers all the same, with a look for them in every step."""
    network, sizes = WithIdleHead(), {"image_size": 8, "in_channels": 1}
    assert has_idle_parameters(network, sizes, torch.device("cpu"))
    network.idle = torch.nn.Identity()  # type: ignore[assignment]
    assert not has_idle_parameters(network, sizes, torch.device("cpu"))
    network.lock = threading.Lock()  # type: ignore[assignment]
    assert has_idle_parameters(network, sizes, torch.device("cpu"))


def test_averages_begin_alike_on_all_workers(tmp_path: Path) -> None:
    """Weights that every worker has drawn for itself: all train, and average, from those of rank 0."""
    spawn(drawn_apart_rank, 2, tmp_path / "group")
    assert (tmp_path / "group" / "model" / "weights.safetensors").exists()


@pytest.mark.parametrize("workers", [2, 4])
def test_mixing_and_averaging_are_the_same_on_any_number_of_workers(tmp_path: Path, workers: int) -> None:
    """MixUp, CutMix, smoothing, clipping and the average of the weights: the exported model agrees with one worker's within 1e-5."""
    work = make_work(tmp_path / "one", micro_batches=PARTS, norm="group", train=MIXED)
    train_worker(work, make_feed(micro_batches=PARTS), StopAfter(NEVER), Events())
    spawn(mix_rank, workers, tmp_path / "group")
    alone = load_file(work.model_folder / "weights.safetensors")
    together = load_file(tmp_path / "group" / "model" / "weights.safetensors")
    for name, tensor in alone.items():
        torch.testing.assert_close(together[name], tensor, atol=1e-5, rtol=0)


def test_two_workers_resumed_compute_the_same_bits(tmp_path: Path) -> None:
    """Stopped in validation and inside an epoch, with mixing, averaging, fp16 and each worker's own batch statistics: the same state.
    One worker that goes on instead of the two takes the mean of their statistics.
    """
    spawn(resume_rank, 2, tmp_path / "group")
    folders = [tmp_path / "group" / name for name in ("whole/checkpoints", "parts/checkpoints", "in-validation")]
    whole, parts, in_validation = (CheckpointStore(folder).newest() for folder in folders)
    assert whole is not None
    assert parts is not None
    assert in_validation is not None
    own = [rank["buffers"]["bn1.running_mean"] for rank in in_validation.state["ranks"]]
    assert not torch.equal(*own)  # those of the last step, because a mean that is taken twice may round twice
    alone = trainer.Trainer(make_work(tmp_path / "alone", train=MIXED | {"precision": "fp16"}), Pulse())
    alone.load_state_dict(in_validation.state, in_validation.position)
    torch.testing.assert_close(dict(alone.model.named_buffers())["bn1.running_mean"], (own[0] + own[1]) / 2)
    assert whole.position == parts.position
    assert_same_state(parts.state, whole.state)
    assert len(whole.state["ranks"]) == 2


def test_batch_statistics_are_averaged(tmp_path: Path) -> None:
    """Both workers hold the mean of both; what stands still is left alone, because a mean of equal values may round."""
    spawn(average_rank, 2, tmp_path / "group")
    means = [np.load(tmp_path / "group" / f"mean-{rank}.npy").tolist() for rank in (0, 1)]
    assert means == [[[0.5, 0.5], [0.0, 0.0]], [[0.5, 0.5], [1.0, 1.0]]]


@pytest.mark.parametrize("workers", [2, 4])
def test_one_worker_can_stand_in_for_several(tmp_path: Path, workers: int) -> None:
    """One worker that takes all micro-batches of a step accumulates the gradient of the whole step."""
    whole = make_work(tmp_path / "whole", norm="group", train={"select": "last"})
    parts = make_work(tmp_path / "parts", workers=workers, norm="group", train={"select": "last"})
    train_worker(whole, make_feed(), StopAfter(NEVER), Events())
    train_worker(parts, make_feed(micro_batches=workers), StopAfter(NEVER), Events())
    expected = load_file(whole.model_folder / "weights.safetensors")
    for name, tensor in load_file(parts.model_folder / "weights.safetensors").items():
        torch.testing.assert_close(tensor, expected[name], atol=1e-5, rtol=0)
