"""Which numbers the forward pass computes with, and what keeps small gradients above zero."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

SCALE_MIN = 1e-4
"""With less, gradients of a usual size vanish in fp16 (as fairseq's `--min-loss-scale`)."""
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose_precision(asked: str, device: torch.device) -> str:
    """fp32, bf16 or fp16: what the job asks for, or what suits the device of this worker."""
    if asked != "auto":
        return asked
    if device.type == "cpu":
        return "bf16" if torch.cpu.get_capabilities().get("amx_bf16", False) else "fp32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


class Precision:
    """Autocast for the forward pass, and for fp16 a scaled loss; with fp32 nothing at all.

    Args:
        name: fp32, bf16 or fp16.
        device: Where the network is.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        self.name, self._device = name, device
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")

    def autocast(self) -> AbstractContextManager[object]:
        if self.name == "fp32":
            return nullcontext()
        return torch.autocast(self._device.type, dtype=DTYPES[self.name])

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss."""
        torch.autograd.backward(self.scaler.scale(loss))

    @property
    def overflows(self) -> bool:
        """Whether so many steps in a row were left out that there is no scale worth trying."""
        return self.scaler.is_enabled() and self.scaler.get_scale() < SCALE_MIN

    def step(self, optimizer: torch.optim.Optimizer, clip_norm: float) -> None:
        """Clip the gradients to a norm, 0 for never, and take the step; fp16 leaves out a step whose gradients overflow.

        The gradients are equal on all workers, so all of them leave it out.
        """
        if clip_norm:
            self.scaler.unscale_(optimizer)
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            torch.nn.utils.clip_grad_norm_(parameters, clip_norm)
        self.scaler.step(optimizer)
        self.scaler.update()
        optimizer.zero_grad(set_to_none=True)
