"""Which tests need a GPU, and how a machine is made to look as if it had none."""

from __future__ import annotations

import pytest
import torch

NEED_GPU = (pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU on this machine"))
GPUS = torch.cuda.device_count()


def hide_gpus(patch: pytest.MonkeyPatch) -> None:
    """From now on plans of this process count on no GPU."""
    patch.setenv("CUDA_VISIBLE_DEVICES", "")
