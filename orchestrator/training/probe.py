"""How many images fit the memory of one worker at a time, found by training on a few of them."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count

import numpy as np
import torch
from torch import Tensor

from orchestrator.errors import TrainingError
from orchestrator.plan.batch import TOO_LARGE
from orchestrator.training.batch import Batch, Phase
from orchestrator.training.eager import eager
from orchestrator.training.memory import free_bytes
from orchestrator.training.models import count_parameters
from orchestrator.training.pulse import Pulse
from orchestrator.training.trainer import Trainer
from orchestrator.training.work import TrainWork
from orchestrator.units import format_bytes

GPU_SHARE = 0.9
"""Of a GPU's memory; the rest is for what other workers' processes hold there, for validation and for fragmentation."""
CPU_SHARE = 0.5
"""Of the memory that is free; the rest is for Ray's object store and for reading."""
TRANSIENT = 2.0
"""Memory at the peak of a step on a CPU against what autograd keeps of a forward pass: gradients and scratch space come on top."""
COPIES = 5
"""Numbers kept for each parameter at most: itself, its gradient, two of the optimiser, its average."""
MEASURED_ROWS = (2, 4)


@dataclass(frozen=True)
class ProbeWork:
    """What is to be found out."""

    work: TrainWork
    choices: tuple[int, ...]
    """Images in a micro-batch, ascending."""
    sharing: int
    """Workers that share the memory of a node; each has a GPU of its own."""


@dataclass(frozen=True)
class Fit:
    """The largest micro-batch that fits."""

    rows: int
    reason: str


def probe_micro_batch(probe: ProbeWork) -> Fit:
    """Try on the device that the plan trains on.

    Raises:
        TrainingError: Not even the smallest choice fits.
    """
    return _probe_gpu(probe) if probe.work.plan.device == "cuda" else _probe_cpu(probe)


def largest_fitting(choices: Sequence[int], fits: Callable[[int], bool]) -> int | None:
    """The largest of ascending choices that fits, if what is smaller than one that fits does so too; the largest is tried first."""
    low, high = 0, len(choices)
    middle = high - 1
    while low < high:
        if fits(choices[middle]):
            low = middle + 1
        else:
            high = middle
        middle = (low + high) // 2
    return choices[low - 1] if low else None


def _probe_gpu(probe: ProbeWork) -> Fit:
    """Real steps on random images."""
    total = torch.cuda.get_device_properties().total_memory
    torch.cuda.set_per_process_memory_fraction(GPU_SHARE)

    def fits(rows: int) -> bool:
        try:
            _train_steps(probe.work, rows, steps=2)  # the second one has the optimiser's state in memory as well
        except torch.OutOfMemoryError:
            return False
        finally:
            gc.collect()
            torch.cuda.empty_cache()
        return True

    rows = largest_fitting(probe.choices, fits)
    torch.cuda.set_per_process_memory_fraction(1.0)
    if rows is None:
        raise TrainingError(f"a step of {probe.choices[0]} images does not fit the {format_bytes(total)} of the GPU", TOO_LARGE)
    return Fit(rows, f"the most that trains in {GPU_SHARE:.0%} of the {format_bytes(total)} of a GPU, tried on one worker")


def _probe_cpu(probe: ProbeWork) -> Fit:
    """From what autograd keeps of two small batches: running out of memory, as on a GPU, would end the process, or another one."""
    few, more = (_kept_bytes(probe.work, rows) for rows in MEASURED_ROWS)
    row_bytes = TRANSIENT * (more.activations - few.activations) / (MEASURED_ROWS[1] - MEASURED_ROWS[0])
    free = free_bytes()
    budget = CPU_SHARE * free / probe.sharing
    rows = largest_fitting(probe.choices, lambda rows: few.weights + rows * row_bytes <= budget)
    need = f"{format_bytes(int(row_bytes))} an image and {format_bytes(few.weights)} for the weights"
    if rows is None:
        what = f"a step of {probe.choices[0]} images takes {need}, but a worker has {format_bytes(int(budget))}"
        raise TrainingError(what, TOO_LARGE)
    return Fit(rows, f"the most that fits: {need}, measured on one worker, of {format_bytes(int(budget))} for each")


@dataclass(frozen=True)
class _Kept:
    """Bytes that a step needs."""

    weights: int
    """Whatever the number of images."""
    activations: int
    """Kept by autograd between forward and backward; weights among them."""


def _kept_bytes(work: TrainWork, rows: int) -> _Kept:
    sizes: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        trainer = _train_steps(work, rows, steps=1)
    return _Kept(COPIES * 4 * count_parameters(trainer.model), sum(sizes.values()))


def _train_steps(work: TrainWork, rows: int, steps: int) -> Trainer:
    """What one worker does, alone and on random images."""
    plan = replace(work.plan, workers=1, micro_batches=1, micro_batch_rows=rows)
    with eager(compiles=work.job.may_compile):
        trainer, batches = Trainer(replace(work, plan=plan), Pulse()), _random_batches(work, rows)
        for _ in range(steps):
            trainer.train_step(batches)
    return trainer


def _random_batches(work: TrainWork, rows: int) -> Iterator[Batch]:
    rng, size = np.random.default_rng(0), work.job.data.image.size
    for step in count():
        images = rng.integers(0, 256, (rows, size, size, work.in_channels), np.uint8)
        labels = rng.integers(0, len(work.classes), rows)
        yield Batch(step, Phase.TRAIN, 0, step, images, labels, np.zeros((rows, 16), np.uint8))
