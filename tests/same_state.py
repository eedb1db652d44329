"""Whether two states of a checkpoint agree in every bit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch


def state_differences(first: Any, second: Any, name: str = "state") -> Iterator[str]:
    """The names of the values that differ; NaN equals NaN, because it stands for no accuracy."""
    if isinstance(first, dict) and isinstance(second, dict) and first.keys() == second.keys():
        for key, value in first.items():
            yield from state_differences(value, second[key], f"{name}.{key}")
    elif isinstance(first, list | tuple) and isinstance(second, list | tuple) and len(first) == len(second):
        for place, (one, other) in enumerate(zip(first, second, strict=True)):
            yield from state_differences(one, other, f"{name}.{place}")
    elif isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        if not torch.equal(first, second):
            yield name
    elif first != second and (first == first or second == second):  # noqa: PLR0124 -- NaN
        yield name
