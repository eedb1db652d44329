"""The randomness of a micro-batch: decided by where it stands, not by who computes it or what was computed before."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Place:
    """Which micro-batch of which global step."""

    epoch: int
    step: int
    part: int
    """Number of the micro-batch inside the step, counted over all workers."""


def generator(seed: int, place: Place, purpose: str) -> np.random.Generator:
    """The same numbers on every worker, machine and resume; another purpose gets other numbers."""
    return np.random.Generator(np.random.Philox(key=_digest(seed, place, purpose, size=16)))


def seed_torch(seed: int, place: Place, device: torch.device) -> None:
    """What the network itself draws next (dropout, stochastic depth) follows from the place.

    `torch.manual_seed` would do as well, but where CUDA is not in use it keeps a copy of the call stack each time.
    """
    number = _digest(seed, place, "network", size=7)
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        torch.cuda.manual_seed(number)


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """Where torch's generators stand, for what is random outside a micro-batch."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: dict[str, torch.Tensor], device: torch.device) -> None:
    """The inverse; a checkpoint of another kind of device leaves this one's generator as it was seeded."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


def _digest(seed: int, place: Place, purpose: str, *, size: int) -> int:
    text = f"{purpose}:{seed}:{place.epoch}:{place.step}:{place.part}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=size).digest(), "little")
