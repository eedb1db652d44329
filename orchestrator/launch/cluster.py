"""Where the work is done: in this process, on a Ray of this machine, or on the cluster that `RAY_ADDRESS` names."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from orchestrator.launch.signals import take_back_sigterm
from orchestrator.plan.values import ClusterShape
from orchestrator.record.folder import Root
from orchestrator.stages.engine import Engine
from orchestrator.stages.environment import set_environment

CPUS_MIN = 2
"""Ray counts logical CPUs: on a machine with one core the workers and Ray Data share it."""
TOKEN = Path.home() / ".config" / "orchestrator" / "ray_token"
"""The secret that our clusters and their clients share."""


@dataclass(frozen=True)
class Reached:
    """Where the work is going to be done."""

    shape: ClusterShape
    dashboard: str = ""
    """`HOST:PORT` of Ray's own dashboard; empty where there is none."""


@contextmanager
def reached_cluster(root: Root, source: str, *, in_process: bool) -> Iterator[Reached]:
    """What there is to compute with; a cluster that runs already is joined and checked, one of our own is started when work begins.

    Raises:
        ClusterError: The cluster of `RAY_ADDRESS` cannot be joined, or its nodes have another version of the program.
        StorageError: Its nodes do not share the root or the images.
    """
    address = os.environ.get("RAY_ADDRESS", "")
    if in_process or address in ("", "local"):
        yield Reached(local_shape())
        return
    set_environment(TOKEN)
    from orchestrator.stages.cluster import check_nodes, running_cluster

    with running_cluster(address) as (shape, dashboard):
        check_nodes(root.path, source)
        yield Reached(shape, dashboard)


@contextmanager
def start_engine(shape: ClusterShape, *, in_process: bool) -> Iterator[Engine]:
    """Ray on the cluster that was reached, else on this machine, or this process alone."""
    if in_process:
        from orchestrator.stages.in_process import InProcessEngine

        yield InProcessEngine()
        return
    set_environment(TOKEN)
    from orchestrator.stages.cluster import local_cluster

    with local_cluster(shape):
        from orchestrator.stages.on_ray import RayEngine

        yield RayEngine()


@contextmanager
def starting_engine(shape: ClusterShape, *, in_process: bool) -> Iterator[Callable[[], Engine]]:
    """As `start_engine`, beside whatever the main thread does until it asks for the engine: Ray takes seconds to start, mostly waiting.

    What kept the engine from starting is raised where it is asked for. A caller that leaves before does not wait for the start: the
    engine ends as soon as it has begun.
    """
    if not in_process:
        set_environment(TOKEN)
    engine: Future[Engine] = Future()
    over = threading.Event()

    def hold() -> None:
        try:
            with start_engine(shape, in_process=in_process) as started:
                engine.set_result(started)
                over.wait()
        except BaseException as error:
            if engine.done():
                raise
            engine.set_exception(error)

    def wait() -> Engine:
        started = engine.result()
        take_back_sigterm()
        return started

    thread = threading.Thread(target=hold, name="engine", daemon=True)  # lives as long as Ray's processes, which end with it
    try:
        thread.start()
        yield wait
    finally:
        over.set()
        if engine.done():
            thread.join()


def local_shape() -> ClusterShape:
    """The shape of the Ray cluster that is started on this machine, known without starting it."""
    return ClusterShape(cpus=max(CPUS_MIN, len(os.sched_getaffinity(0))), gpus=_visible_gpus())


def _visible_gpus() -> int:
    present = len([entry for entry in Path("/dev").glob("nvidia*") if entry.name.removeprefix("nvidia").isdigit()])
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return present
    return min(present, len([device for device in visible.split(",") if device.strip() not in ("", "-1")]))
