"""Several workers compute what one computes, and a group that does not is found out."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from conftest import NEVER, Events, StopAfter, make_feed, make_work
from safetensors.torch import load_file

from orchestrator.errors import TrainingError
from orchestrator.training.distributed import average_buffers, check_same_weights
from orchestrator.training.loop import train_worker


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def join(rank: int, workers: int, port: int) -> None:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=workers)


def leave() -> None:
    """All together: a peer that is gone makes the last collective of another one abort."""
    dist.barrier()
    dist.destroy_process_group()


def train_rank(rank: int, workers: int, port: int, place: Path) -> None:
    join(rank, workers, port)
    work = make_work(place, workers=workers, norm="group", train={"select": "last"})
    feed = make_feed(micro_batches=workers, rank=rank, workers=workers)
    train_worker(work, feed, StopAfter(NEVER), Events())
    leave()


def diverge_rank(rank: int, workers: int, port: int, place: Path) -> None:
    """A model that nobody wrapped: every worker trains its own."""
    join(rank, workers, port)
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


def average_rank(rank: int, workers: int, port: int, place: Path) -> None:
    join(rank, workers, port)
    model = torch.nn.BatchNorm1d(2)
    model.running_mean.fill_(float(rank))  # type: ignore[union-attr, operator]
    average_buffers(model)
    np.save(place / f"mean-{rank}.npy", model.running_mean.numpy())  # type: ignore[union-attr, operator]
    leave()


def spawn(target: Any, workers: int, place: Path) -> None:
    place.mkdir(exist_ok=True)
    mp.spawn(target, (workers, free_port(), place), nprocs=workers)


def test_two_workers_train_what_one_trains(tmp_path: Path) -> None:
    """Twelve steps of SGD at the same global batch, without batch statistics: parameters agree within 1e-5."""
    work = make_work(tmp_path / "one", norm="group", train={"select": "last"})
    train_worker(work, make_feed(), StopAfter(NEVER), Events())
    spawn(train_rank, 2, tmp_path / "two")
    alone = load_file(work.model_folder / "weights.safetensors")
    together = load_file(tmp_path / "two" / "model" / "weights.safetensors")
    for name, tensor in alone.items():
        torch.testing.assert_close(together[name], tensor, atol=1e-5, rtol=0)


def test_a_group_that_does_not_average_gradients_is_found_out(tmp_path: Path) -> None:
    """With a model that is not wrapped, every worker raises and names the ranks that differ."""
    spawn(diverge_rank, 2, tmp_path / "group")
    for rank in (0, 1):
        assert "ranks [1]" in (tmp_path / "group" / f"found-{rank}").read_text()


def test_batch_statistics_are_averaged(tmp_path: Path) -> None:
    """Both workers hold the mean of both."""
    spawn(average_rank, 2, tmp_path / "group")
    assert [np.load(tmp_path / "group" / f"mean-{rank}.npy").tolist() for rank in (0, 1)] == [[0.5, 0.5], [0.5, 0.5]]


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
