"""Groups of worker processes that find one another without Ray."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

MEETINGS: list[dist.Store] = []
"""Where this process meets the other workers of its group."""


def join(rank: int, workers: int, meeting: Path) -> None:
    torch.set_num_threads(1)  # more processes than cores would wait for one another in turn
    MEETINGS.append(dist.FileStore(str(meeting), workers))
    dist.init_process_group("gloo", store=MEETINGS[-1], rank=rank, world_size=workers)


def leave() -> None:
    """When the last collective is over for all: a peer that is gone makes that of another one abort, even where it is a barrier."""
    (meeting,) = MEETINGS
    meeting.set(f"leaves-{dist.get_rank()}", "")
    meeting.wait([f"leaves-{rank}" for rank in range(dist.get_world_size())])
    dist.destroy_process_group()


def spawn(target: Any, workers: int, place: Path) -> None:
    place.mkdir(exist_ok=True)
    meeting = Path(tempfile.mkdtemp(dir=place)) / "meeting"
    mp.spawn(_run, (target, workers, meeting, place), nprocs=workers)


def _run(rank: int, target: Any, workers: int, meeting: Path, place: Path) -> None:
    """Ends without what Python does at its end: gloo's threads may still let go of tensors, and one that does so then aborts the process.

    See https://github.com/pytorch/pytorch/pull/179291.
    """
    target(rank, workers, meeting, place)
    os._exit(0)
