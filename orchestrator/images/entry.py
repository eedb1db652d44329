"""The user's own transform: a function of an image, named in the job file and imported where it is applied."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.errors import TrainingError
from orchestrator.images.step import Image

Function = Callable[..., Any]


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
        function = import_function(self.entry)
        try:
            changed = function(image.copy(), rng, **self.kwargs)
        except Exception as error:
            raise TrainingError(f"the transform {self.entry} failed: {_described(error)}") from error
        if not isinstance(changed, np.ndarray) or changed.shape != image.shape or changed.dtype != np.uint8:
            found = f"{changed.dtype} {changed.shape}" if isinstance(changed, np.ndarray) else type(changed).__name__
            raise TrainingError(f"the transform {self.entry} returned {found} for an image of uint8 {image.shape}; both must be the same")
        return changed


@cache
def import_function(entry: str) -> Function:
    """The function that `module:function` names, from the installed packages or the working directory.

    Raises:
        TrainingError: There is no such function, or its module fails when it is imported.
    """
    module, _, name = entry.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:  # `python -m` and Ray's workers look there, an installed command does not
        sys.path.append(here)
    try:
        function = getattr(importlib.import_module(module), name)
    except Exception as error:
        advice = f"it is looked for in the installed packages and in {here}; both must be the same on every machine"
        raise TrainingError(f"the transform {entry} cannot be imported: {_described(error)}", advice) from error
    if not callable(function):
        raise TrainingError(f"the transform {entry} is {type(function).__name__}, not a function")
    return function  # type: ignore[no-any-return]  # checked by calling it


def _described(error: Exception) -> str:
    """The error and the line it comes from."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({frame.filename}:{frame.lineno})"
