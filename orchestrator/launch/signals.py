"""Ctrl-C once: save and stop. Twice: stop now. SIGTERM counts as the first Ctrl-C."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from orchestrator.errors import Interrupted
from orchestrator.stages.stopping import StopRequest


@contextmanager
def stopping_on_signals(stop: StopRequest, announce: Callable[[str], None]) -> Iterator[None]:
    """Turn signals into wishes while a run is going on; must be entered in the main thread.

    Raises:
        Interrupted: From wherever the main thread is, at the second signal.
    """

    def on_signal(number: int, _frame: FrameType | None) -> None:
        if stop.asked:
            raise Interrupted(f"stopped at once by {signal.Signals(number).name}; what was saved before is kept")
        stop.ask()
        announce("stopping after this step; once more to stop now")

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def take_back_sigterm() -> None:
    """Called in the main thread when Ray has started, whose C++ takes over SIGTERM, prints stacks and ends the program seconds later."""
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
