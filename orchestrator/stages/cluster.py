"""A Ray cluster of our own on this machine, for as long as a run needs it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray.data import DataContext

from orchestrator.errors import ClusterError
from orchestrator.plan.values import ClusterShape


@contextmanager
def local_cluster(shape: ClusterShape) -> Iterator[None]:
    """Start Ray on this machine, and stop it with everything that runs on it.

    A Ray that this process is connected to already is used and left running.

    Raises:
        ClusterError: Ray did not start.
    """
    _quieten()
    if ray.is_initialized():
        yield
        return
    try:
        ray.init(
            address="local",
            num_cpus=shape.cpus,
            num_gpus=shape.gpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (RuntimeError, ValueError, OSError, ConnectionError, ray.exceptions.RayError) as error:
        raise ClusterError(f"Ray did not start on this machine: {error}", "orchestrator doctor names what is missing") from error
    try:
        yield
    finally:
        ray.shutdown()


def _quieten() -> None:
    """Ray's own chatter; what matters of it reaches the user as events and errors."""
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"ray\..*")
    for name in ("ray", "ray.data", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    DataContext.get_current().enable_progress_bars = False
