"""How a worker of Ray Train hears that it has to go: SIGTERM, or that Ray drains its node."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import ray
from ray.exceptions import RayError
from ray.train.torch import TorchConfig
from ray.train.torch.config import _TorchBackend

from orchestrator.stages.cluster import draining_nodes
from orchestrator.stages.stopping import NOTICES, Notice

LOOK_EVERY_S = 1.0
"""Clouds give half a minute and more between the notice and the end."""


class NoticingBackend(_TorchBackend):  # type: ignore[misc]  # Ray ships no types
    """Ray calls a backend in the main thread of every worker, where alone Python takes signals; training runs in another thread."""

    def on_training_start(self, worker_group: Any, backend_config: Any) -> None:
        super().on_training_start(worker_group, backend_config)
        worker_group.execute(catch_sigterm)


class NoticingTorchConfig(TorchConfig):  # type: ignore[misc]  # Ray ships no types
    """torch.distributed as Ray sets it up, in workers that hear SIGTERM."""

    @property
    def backend_cls(self) -> type[NoticingBackend]:
        return NoticingBackend


def catch_sigterm() -> None:
    """While notices are heeded the first SIGTERM is one; otherwise, and from the second on, it ends the process as Ray has it."""
    before: Any = signal.getsignal(signal.SIGTERM)

    def on_sigterm(number: int, frame: FrameType | None) -> None:
        if NOTICES.heeded and NOTICES.heard is None:
            NOTICES.heard = Notice("SIGTERM", 0.0)
        else:
            before(number, frame)

    signal.signal(signal.SIGTERM, on_sigterm)


@contextmanager
def heeding_notices() -> Iterator[None]:
    """Hear notices while the context lasts; what is inside looks at them and saves."""
    ended = threading.Event()
    threading.Thread(target=_watch_node, args=(ray.get_runtime_context().get_node_id(), ended), name="notices", daemon=True).start()
    NOTICES.heeded = True
    try:
        yield
    finally:
        NOTICES.heeded = False
        ended.set()


def _watch_node(node: str, ended: threading.Event) -> None:
    while not ended.wait(LOOK_EVERY_S) and NOTICES.heard is None:
        try:
            deadline = draining_nodes().get(node)
        except RayError:  # asked again
            continue
        if deadline is not None:
            NOTICES.heard = Notice("drain", deadline)
