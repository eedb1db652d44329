"""The user's own transform: a function of an image, called and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from orchestrator.entry import described, import_function
from orchestrator.errors import TrainingError
from orchestrator.images.step import Image


@dataclass(frozen=True)
class Entry:
    """Calls `function(image, rng, **kwargs)`, which returns an image of the same shape; the image it is given may be written to."""

    entry: str
    """`module:function`."""
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def apply(self, image: Image, rng: np.random.Generator) -> Image:
        """(H, W, C) uint8 to the same shape.

        Raises:
            TrainingError: The function cannot be imported, failed, or returned something else than such an image.
        """
        function = import_function(self.entry, "transform")
        try:
            changed = function(image.copy(), rng, **self.kwargs)
        except Exception as error:
            raise TrainingError(f"the transform {self.entry} failed: {described(error)}") from error
        if not isinstance(changed, np.ndarray) or changed.shape != image.shape or changed.dtype != np.uint8:
            found = f"{changed.dtype} {changed.shape}" if isinstance(changed, np.ndarray) else type(changed).__name__
            raise TrainingError(f"the transform {self.entry} returned {found} for an image of uint8 {image.shape}; both must be the same")
        return changed
