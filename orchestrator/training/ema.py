"""A running average of the weights, which generalises better than the last ones (Polyak and Juditsky 1992)."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class WeightAverage:
    """The average beside a model that is being trained.

    Parameters and batch statistics are averaged alike; counters are copied. What averages is a function of the number of
    steps, so `model` is all the state.

    Args:
        model: As built, on its device; not wrapped.
        decay: What of the average stays in one step, once it is warm.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._source, self._decay = model, decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, steps: int) -> None:
        """Take in the weights after a step; `steps` are those taken so far."""
        averages, currents = _tensors(self.model), _tensors(self._source)
        floats = [place for place, tensor in enumerate(averages) if tensor.is_floating_point()]
        average = get_ema_multi_avg_fn(decay_after(steps, self._decay))  # type: ignore[no-untyped-call]
        average([averages[place] for place in floats], [currents[place] for place in floats], steps)
        for tensor, current in zip(averages, currents, strict=True):
            if not tensor.is_floating_point():
                tensor.copy_(current)

    def restart(self) -> None:
        """Begin with the weights as they are now."""
        self.model.load_state_dict(self._source.state_dict())

    def counterparts(self, modules: Sequence[nn.Module]) -> list[nn.Module]:
        """What stands in the average where `modules` stand in the model."""
        wanted = {id(module) for module in modules}
        return [self.model.get_submodule(name) for name, module in self._source.named_modules() if id(module) in wanted]


def decay_after(steps: int, decay: float) -> float:
    """Less in the beginning, when the average would be mostly the random weights it started from (as TensorFlow's `num_updates`)."""
    return min(decay, (1 + steps) / (10 + steps))


def _tensors(model: nn.Module) -> list[torch.Tensor]:
    return [*model.parameters(), *model.buffers()]
