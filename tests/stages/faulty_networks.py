"""Networks that fail while they train, on one rank; Ray's workers import them by name."""

from __future__ import annotations

import ctypes
import math
import os
import signal
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn


class Faulty(nn.Module):
    """A small network.

    Args:
        fault: What happens, a method of this class.
        at: In which forward pass of training, counted from 0; -1: in all.
        rank: On which rank.
        once: A file that is made when it happens, after which it does not happen again; empty: again and again.
    """

    def __init__(self, num_classes: int, in_channels: int, fault: str, at: int, rank: int, once: str) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(in_channels, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))
        self.fault, self.at, self.rank, self.once, self.passes = fault, at, rank, once, 0

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.body(images)
        if self.fault == "grows_in_validation":
            return self.grows(logits) if not self.training and len(images) > 2 else logits
        if not self.training:
            return logits
        now, self.passes = self.passes, self.passes + 1
        if self.at not in (now, -1) or not happens(self.rank, self.once):
            return logits
        changed: Tensor = getattr(self, self.fault)(logits)
        return changed

    def sleeps(self, logits: Tensor) -> Tensor:
        time.sleep(10**6)
        return logits

    def holds(self, logits: Tensor) -> Tensor:
        """No other thread of the process runs meanwhile."""
        ctypes.PyDLL(None).sleep(10**6)
        return logits

    def raises(self, logits: Tensor) -> Tensor:
        return logits + nn.functional.linear(logits, torch.zeros(1, 1000))

    def breaks(self, logits: Tensor) -> Tensor:
        return logits * math.nan

    def slows(self, logits: Tensor) -> Tensor:
        time.sleep(4.0)
        return logits

    def grows(self, logits: Tensor) -> Tensor:
        return logits + torch.empty(2**62, dtype=torch.uint8)[:1]

    def starves(self, logits: Tensor) -> Tensor:
        """The kernel ends this process, in the control group that a file beside `once` names: it asks for more than is granted there."""
        Path(Path(self.once).with_name("group").read_text(), "cgroup.procs").write_text(str(os.getpid()))
        return logits + torch.zeros(2**29, dtype=torch.uint8)[:1]

    def exits(self, _: Tensor) -> Tensor:
        raise SystemExit(3)

    def dies(self, _: Tensor) -> Tensor:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def happens(rank: int, once: str) -> bool:
    """Whether it happens in this process, now."""
    here = dist.get_rank() if dist.is_initialized() else 0
    if here != rank or (once and Path(once).exists()):
        return False
    if once:
        Path(once).touch()
    return True


def build(num_classes: int, in_channels: int, fault: str, at: int = 3, rank: int = 1, once: str = "") -> Faulty:
    """The network; with the fault `is_not_built` the process dies here."""
    if fault == "is_not_built" and happens(rank, once):
        os.kill(os.getpid(), signal.SIGKILL)
    return Faulty(num_classes, in_channels, fault, at, rank, once)
