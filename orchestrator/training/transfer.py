"""Between the memory of a worker and that of its device."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from orchestrator.training.batch import Batch


@dataclass(frozen=True)
class Sent:
    """A micro-batch on its way to the device."""

    images: Tensor
    """uint8 (M, H, W, C)."""
    labels: Tensor
    """int64 (M,)."""


class Transfer:
    """Sends micro-batches to a device.

    To a GPU they travel beside what it computes, on a stream of their own: what was sent in time has cost nothing when it is needed.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    @property
    def overlaps(self) -> bool:
        """Whether a micro-batch travels while the device computes, so that it is better sent before it is needed."""
        return self._stream is not None

    def send(self, batch: Batch) -> Sent:
        """Return when the arrays of the batch are free to be overwritten."""
        with nullcontext() if self._stream is None else torch.cuda.stream(self._stream):
            return Sent(to_device(batch.images, self._device), to_device(batch.labels, self._device))

    def receive(self, sent: Sent) -> tuple[Tensor, Tensor]:
        """Images and labels; what is asked of the device from now on finds them there."""
        if self._stream is not None:
            computing = torch.cuda.current_stream(self._device)
            computing.wait_stream(self._stream)
            for values in (sent.images, sent.labels):
                values.record_stream(computing)  # their memory belongs to the other stream, which would use it again too early
        return sent.images, sent.labels


def to_device(values: NDArray[np.uint8] | NDArray[np.int64], device: torch.device) -> Tensor:
    """A tensor of its own memory: the arrays of a batch may be read-only views of shared memory.

    A GPU fetches it from page-locked memory while this process goes on; what is asked of the same stream afterwards finds it there.
    """
    if device.type == "cpu":
        return torch.from_numpy(values.copy())
    locked = torch.empty(values.shape, dtype=torch.uint8 if values.dtype == np.uint8 else torch.int64, pin_memory=True)
    np.copyto(locked.numpy(), values)
    return locked.to(device, non_blocking=True)


def from_device(values: Tensor) -> Callable[[], Tensor]:
    """What gives the values on the CPU, and waits for them alone: not for what is asked of a GPU in the meantime."""
    if values.device.type == "cpu":
        return lambda: values
    locked = torch.empty(values.shape, dtype=values.dtype, pin_memory=True).copy_(values, non_blocking=True)
    arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
    arrived.record()

    def wait() -> Tensor:
        arrived.synchronize()
        return locked

    return wait
