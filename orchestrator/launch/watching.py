"""Looking at runs and stopping them, from any shell that sees their folders."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress

from orchestrator.errors import OrchestratorError
from orchestrator.record.folder import RunFolder
from orchestrator.record.journal import Event, EventFollower
from orchestrator.record.lock import holder

LOOK_EVERY_S = 0.2
STOP_DEADLINE_S = 120.0
"""A worker finishes its step and saves a checkpoint; what takes longer hangs."""


def follow_events(folder: RunFolder, *, until_end: bool) -> Iterator[Event]:
    """The events of a run in their order; with `until_end` also those to come, for as long as somebody works on it."""
    follower = EventFollower(folder.events, from_start=True)
    while True:
        alive = until_end and holder(folder.path) is not None
        yield from follower.new_events()
        if not alive:
            return
        time.sleep(LOOK_EVERY_S)


def stop_run(folder: RunFolder) -> bool:
    """Ask whoever works on a run to save and stop, and wait until it has; False when nobody works on it.

    Raises:
        OrchestratorError: It works on another machine, belongs to somebody else, or does not end.
    """
    found = holder(folder.path)
    if found is None:
        return False
    if not found.is_here:
        raise OrchestratorError(f"{folder.name} is worked on by {found}", f"run the same command there, or: touch {folder.stop_request}")
    with suppress(ProcessLookupError):
        try:
            os.kill(found.pid, signal.SIGTERM)
        except PermissionError as error:
            raise OrchestratorError(f"{folder.name} is worked on by {found}, which belongs to another user", "ask its owner") from error
    deadline = time.monotonic() + STOP_DEADLINE_S
    while holder(folder.path) is not None:
        if time.monotonic() > deadline:
            raise OrchestratorError(
                f"{found} has not stopped within {STOP_DEADLINE_S:.0f} s", f"kill -9 {found.pid} ends it; the run can be resumed"
            )
        time.sleep(LOOK_EVERY_S)
    return True
