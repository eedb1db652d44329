"""One life of the child that decodes: messages to and from it, and what its end means."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import time
from collections import deque
from collections.abc import Mapping, Sequence

from orchestrator.errors import OrchestratorError
from orchestrator.images.given import Given, Seen
from orchestrator.images.verdict import Reason, Rejection
from orchestrator.images.wire import LENGTHS, answer_from_message, request_to_message

START_S = 120
END_S = 10
PIPE_BYTES = 1 << 20
"""The most that Linux gives without privileges: usual images fit as a whole, so that neither side waits for the other."""
ANSWER_BYTES_MAX = 1 << 30
"""No picture takes so much: longer answers come from a child that has lost its mind."""
MEMORY_WORDS = ("bad_alloc", "MemoryError")
"""The last words of a C++ or a Python program that died for want of memory."""


class ChildEnded(Exception):
    """The child is gone, over the image that it had."""

    def __init__(self, verdict: Rejection) -> None:
        super().__init__(verdict)
        self.verdict = verdict


class Child:
    """A running child process. Sending never waits; receiving also sends what is left to send."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start it and wait until it is ready.

        Raises:
            OrchestratorError: It is not.
        """
        self._spoken = os.memfd_create("decoder-stderr")
        requests, self._requests = os.pipe()
        self._answers, answers = os.pipe()
        self._process = subprocess.Popen(  # noqa: S603 -- this interpreter, on a module of ours
            command,
            env=environment,
            stdin=requests,
            stdout=answers,
            stderr=self._spoken,
            start_new_session=True,  # Ctrl-C in a terminal is not for it
        )
        for theirs in (requests, answers):
            os.close(theirs)
        for ours in (self._requests, self._answers):
            _widen(ours)
        os.set_blocking(self._requests, False)
        self._outgoing: deque[memoryview] = deque()
        self._incoming = bytearray()
        self._chunk = memoryview(bytearray(PIPE_BYTES))
        try:
            self._next_message(START_S)
        except ChildEnded as end:
            raise OrchestratorError(
                f"the process that decodes images does not start: {end.verdict.detail}", f"to see why: {' '.join(command)} < /dev/null"
            ) from end

    def send(self, header: bytes, image: Given) -> None:
        """Hand over an image, or as much of it as the pipe takes now."""
        self._outgoing += map(memoryview, request_to_message(header, image))
        self._write()

    def receive(self, wait_s: float) -> Seen | None:
        """What came of the oldest image that has no answer; None where it does not lie where it should.

        Raises:
            ChildEnded: The child died, wrote nonsense, or was killed because it did not answer in time.
        """
        header, data = self._next_message(wait_s)
        try:
            return answer_from_message(header, data)
        except (KeyError, TypeError, ValueError) as error:
            raise self._talked_nonsense() from error

    def kill(self) -> None:
        """End it at once, whatever it is doing."""
        self._process.kill()
        self._release()

    def _next_message(self, wait_s: float) -> tuple[bytes, bytes]:
        deadline = time.monotonic() + wait_s
        while (message := self._complete_message()) is None:
            self._exchange(deadline, wait_s)
        return message

    def _complete_message(self) -> tuple[bytes, bytes] | None:
        if len(self._incoming) < LENGTHS.size:
            return None
        header_bytes, data_bytes = LENGTHS.unpack_from(self._incoming)
        middle = LENGTHS.size + header_bytes
        end = middle + data_bytes
        if end > ANSWER_BYTES_MAX:
            raise self._talked_nonsense()
        if len(self._incoming) < end:
            return None
        header, data = bytes(self._incoming[LENGTHS.size : middle]), bytes(self._incoming[middle:end])
        del self._incoming[:end]
        return header, data

    def _talked_nonsense(self) -> ChildEnded:
        self.kill()
        return ChildEnded(Rejection(Reason.DECODER_CRASH, "the decoder answered nonsense"))

    def _exchange(self, deadline: float, wait_s: float) -> None:
        """Wait until something can be sent or received, and do so."""
        poll = select.poll()
        poll.register(self._answers, select.POLLIN)
        if self._outgoing:
            poll.register(self._requests, select.POLLOUT)
        ready = {descriptor for descriptor, _ in poll.poll(max(0, deadline - time.monotonic()) * 1000)}
        if not ready:
            self.kill()
            raise ChildEnded(Rejection(Reason.DECODE_TIMEOUT, f"no answer in {wait_s:g} s"))
        if self._requests in ready:
            self._write()
        if self._answers in ready:
            count = os.readv(self._answers, [self._chunk])
            if not count:
                raise ChildEnded(self._autopsy())
            self._incoming += self._chunk[:count]

    def _write(self) -> None:
        try:
            while self._outgoing:
                rest = self._outgoing[0][os.write(self._requests, self._outgoing[0]) :]
                if rest:
                    self._outgoing[0] = rest
                else:
                    self._outgoing.popleft()
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._outgoing.clear()  # it is dead, which is told where answers are read

    def _autopsy(self) -> Rejection:
        """What the end of the child says about the image that it had."""
        try:
            status = self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        lines = os.pread(self._spoken, os.fstat(self._spoken).st_size, 0).decode("utf-8", "replace").split("\n")
        last_words = next((line.strip() for line in reversed(lines) if line.strip()), "")
        self._release()
        if status == -signal.SIGXCPU:
            return Rejection(Reason.DECODE_TIMEOUT, "the decoder used up its CPU time")
        how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        reason = Reason.DECODE_OOM if any(word in line for line in lines for word in MEMORY_WORDS) else Reason.DECODER_CRASH
        return Rejection(reason, f"the decoder ended with {how}{': ' if last_words else ''}{last_words}"[:200])

    def _release(self) -> None:
        self._process.wait()
        for descriptor in (self._requests, self._answers, self._spoken):
            os.close(descriptor)


def _widen(pipe: int) -> None:
    try:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    except PermissionError:
        return  # this user's pipes have used up what Linux gives without privileges; a narrow one is slower and as good
