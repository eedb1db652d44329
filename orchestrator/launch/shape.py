"""What this machine has to compute with, known without starting Ray or importing torch."""

from __future__ import annotations

import os
from pathlib import Path

from orchestrator.plan.values import ClusterShape

CPUS_MIN = 2
"""Ray counts logical CPUs: on a machine with one core the workers and Ray Data share it."""


def local_shape() -> ClusterShape:
    """The shape of the Ray cluster that is started on this machine."""
    return ClusterShape(cpus=max(CPUS_MIN, len(os.sched_getaffinity(0))), gpus=_visible_gpus())


def _visible_gpus() -> int:
    present = len([entry for entry in Path("/dev").glob("nvidia*") if entry.name.removeprefix("nvidia").isdigit()])
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return present
    return min(present, len([device for device in visible.split(",") if device.strip() not in ("", "-1")]))
