"""torch without its compiler, where nothing is compiled.

Optimisers, DistributedDataParallel, and tensors without storage import `torch._dynamo` when they are first used, so that they are left
out should they ever be compiled (torch 2.13: `torch/_compile.py`, `torch/optim/optimizer.py`, `torch/nn/parallel/distributed.py`). The
import costs every process that trains about a second of a core, at its start and after every restart. Here a module stands in that answers
what they ask; when it is asked anything else, it makes way for the real one.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

COMPILER = "torch._dynamo"


@contextmanager
def eager(*, compiles: bool) -> Iterator[None]:
    """Inside, torch's compiler is not imported by what does not need it; a compiler that was imported before stays.

    Args:
        compiles: Whether something inside may be compiled, or is code of others that may ask for the compiler's modules; then it is there.
    """
    if compiles or COMPILER in sys.modules:
        yield
        return
    stand_in = sys.modules[COMPILER] = _Compiler()
    try:
        yield
    finally:
        if sys.modules.get(COMPILER) is stand_in:
            del sys.modules[COMPILER]


class _StandIn(ModuleType):
    """A module of which only a few names are asked; with any other the real module is imported."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__path__":  # the import system looks for them, and does without
            raise AttributeError(name)
        if isinstance(sys.modules.get(COMPILER), _StandIn):
            del sys.modules[COMPILER]
        return getattr(importlib.import_module(self.__name__), name)


class _Utils(_StandIn):
    """What DistributedDataParallel asks of `torch._dynamo.utils`."""

    def __init__(self) -> None:
        super().__init__(f"{COMPILER}.utils")

    @staticmethod
    def get_optimize_ddp_mode() -> str:
        """As the compiler's settings have it by default."""
        return "ddp_optimizer"


class _Compiler(_StandIn):
    """What is asked of `torch._dynamo` where nothing is compiled."""

    def __init__(self) -> None:
        super().__init__(COMPILER)
        self.utils = _Utils()

    @staticmethod
    def disable(function: Callable[..., Any], _recursive: bool = True, **_: Any) -> Callable[..., Any]:  # noqa: FBT001, FBT002 -- as torch calls it
        """The function itself: nothing compiles it."""
        return function

    @staticmethod
    def graph_break() -> None:
        """Where a compiled graph would end."""
