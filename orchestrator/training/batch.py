"""What a worker consumes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray


class Phase(StrEnum):
    """What a micro-batch is for."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


@dataclass(frozen=True)
class Batch:
    """One micro-batch."""

    index: int
    """Place in the feed, counted over all workers."""
    phase: Phase
    epoch: int
    step: int
    """In training the global step inside the epoch, which several micro-batches share; otherwise the number of the batch."""
    images: NDArray[np.uint8]
    """(M, H, W, C); M may be 0 outside training. May be read-only."""
    labels: NDArray[np.int64]
    """(M,)."""
    ids: NDArray[np.uint8]
    """(M, 16)."""
