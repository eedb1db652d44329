"""Steps whose loss or gradients are NaN or infinite: who computed them, and how one leaves no trace."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from orchestrator.training.distributed import all_reduce_max, gather

SKIPS_MAX = 10
"""Steps in a row that are left out; with one more, training stops."""


@dataclass(frozen=True)
class Broken:
    """What is not finite in a step, the same on all workers."""

    ranks: tuple[int, ...]
    """Workers with such a loss; where there are none, it is the gradients."""

    def __str__(self) -> str:
        if not self.ranks:
            return "the gradients are not finite"
        return f"the loss is not finite on rank{'s' if len(self.ranks) > 1 else ''} {', '.join(map(str, self.ranks))}"


def find_broken(loss: float) -> Broken:
    """Called by all workers together, each with the loss of its own images."""
    finite = [own["finite"] for own in gather({"finite": math.isfinite(loss)})]
    return Broken(tuple(rank for rank, is_finite in enumerate(finite) if not is_finite))


class StepGuard:
    """Looks at a step before the optimiser takes it.

    Gradients are equal on all workers, losses are not, and a forward pass has changed the batch statistics by then.

    Args:
        model: On its device; not wrapped.
        scales: The loss is scaled: then gradients overflow now and then, which `GradScaler` sees to.
    """

    def __init__(self, model: nn.Module, *, scales: bool) -> None:
        self._parameters, self._scales = list(model.parameters()), scales
        self._buffers = list(model.buffers())
        self._before = [buffer.clone() for buffer in self._buffers]

    def remember(self) -> None:
        """Keep what the forward pass is going to change."""
        for kept, buffer in zip(self._before, self._buffers, strict=True):
            kept.copy_(buffer)

    @torch.no_grad()
    def restore(self) -> None:
        """Undo what the forward pass has changed."""
        for kept, buffer in zip(self._before, self._buffers, strict=True):
            buffer.copy_(kept)

    def find(self, losses: Tensor) -> Broken | None:
        """What is not finite; called by all workers together, after they have exchanged gradients.

        Args:
            losses: Of this worker's micro-batches.
        """
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None and not self._scales]
        norm = torch.nn.utils.get_total_norm(gradients) if gradients else losses.new_zeros(())
        finite = torch.isfinite(losses).all() & torch.isfinite(norm)
        (broken,) = all_reduce_max([int(not finite)], losses.device)
        return find_broken(float(losses.sum())) if broken else None
