"""What ends a worker, told apart: a lost process may do better when started again, everything else would only fail again."""

from __future__ import annotations

import platform
import re
import resource
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from ray.exceptions import OutOfMemoryError, RayActorError, RayError
from ray.train.v2._internal.exceptions import RayTrainError, WorkerHealthCheckFailedError

from orchestrator.entry import described
from orchestrator.errors import OrchestratorError, TrainingError
from orchestrator.stages.engine import GroupWork
from orchestrator.training.batch import Batch
from orchestrator.training.memory import ended_for_memory, free_bytes
from orchestrator.training.pulse import Pulse
from orchestrator.units import KIBI, format_bytes, format_count

LOST = (RayError, RayTrainError, torch.distributed.DistError, ConnectionError, TimeoutError)
"""What a worker is told when another process, or the network to it, is gone."""
EXCHANGES = ("/gloo/", "Application timeout caused pair closure", "NCCL")
"""Words of the plain RuntimeError that an exchange of gradients raises then."""
NODE_USED, WORKER_USED = re.compile(r"was ([\d.]+\wB) used / ([\d.]+\wB) limit"), re.compile(r"Selected to kill: .*memory used=([\d.]+\wB)")
"""As Ray's memory monitor writes it."""
LOST_PROCESS = re.compile(r"class_name: (?P<name>\w+).*?pid: (?P<pid>\d+).*?ip: (?P<ip>\S+)", re.DOTALL)
"""As Ray writes of an actor that died."""
WRAPPINGS = ("cause", "_base_exc", "controller_failure", "health_check_failure", "__cause__")
"""Where Ray's errors keep the one that they wrap."""


def run_one(work: GroupWork, batches: Iterator[Batch], pulse: Pulse) -> Any:
    """What one worker of a group does.

    Raises:
        OrchestratorError: It would happen again.
        Exception: As it came: another process was lost.
    """
    try:
        return work.run_one_worker(work.settings, batches, pulse)
    except OrchestratorError:
        raise
    except (Exception, SystemExit) as error:
        cause = innermost(error)
        if isinstance(cause, OrchestratorError):
            raise cause from error
        if is_loss(cause):
            raise
        where, ends = place_of(pulse), work.when_validation_ends_memory if pulse.validates else work.when_memory_ends
        if used := memory_used(cause):
            raise TrainingError(f"out of memory {where}: {used}", ends) from error
        raise TrainingError(f"{work.name} failed {where}: {described(cause)}") from error


def place_of(pulse: Pulse) -> str:
    """Where a worker was."""
    if pulse.validates:
        return f"in the validation of epoch {pulse.epoch + 1}"
    return f"in step {pulse.step + 1} of epoch {pulse.epoch + 1}" if pulse.changes else "at the start"


def is_loss(error: BaseException) -> bool:
    """Whether a process, or the network to it, was lost."""
    return isinstance(error, LOST) or (isinstance(error, RuntimeError) and any(word in str(error) for word in EXCHANGES))


def memory_used(error: BaseException) -> str:
    """Who used how much when memory ended; empty when it did not."""
    if isinstance(error, torch.OutOfMemoryError):
        total, used = torch.cuda.get_device_properties().total_memory, torch.cuda.max_memory_allocated()
        return f"the worker took {format_bytes(used)} of the {format_bytes(total)} of its GPU, and needed more"
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error)):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIBI
        return f"the worker took up to {format_bytes(peak)}, {format_bytes(free_bytes())} are free, and it needed more"
    return ""


def find_cause(failures: Sequence[BaseException], when_memory_ends: str) -> BaseException:
    """What ended an attempt: of all that Ray tells of its workers the error of ours that one raised, or else the process that was lost,
    or else what Ray reports first.
    """
    causes = [innermost(failure) for failure in failures]
    ended = next((cause for cause in causes if isinstance(cause, OutOfMemoryError)), None)
    if ended is not None:
        return TrainingError(f"Ray ended a worker because its node ran out of memory: {_monitored(str(ended))}", when_memory_ends)
    telling = [cause for kind in (OrchestratorError, RayActorError) for cause in causes if isinstance(cause, kind)]
    return (telling or causes)[0]


def only_workers_are_gone(failures: Sequence[BaseException]) -> bool:
    """Whether no worker says of another process of Ray, which is none of the workers, that it is gone."""
    raised = [failure for failure in failures if not isinstance(failure, WorkerHealthCheckFailedError)]
    return not any(isinstance(innermost(failure), RayActorError) for failure in raised)


def _monitored(told: str) -> str:
    """Who used how much, as one line."""
    node, worker = NODE_USED.search(told), WORKER_USED.search(told)
    if node is None or worker is None:
        return " ".join(told.split())[:200]
    return f"{node[1]} of {node[2]} were in use, {worker[1]} by the worker"


def first_line(error: BaseException) -> str:
    """What an error says; its kind where it says nothing, as a bare `assert`; which process it was where Ray tells that one is gone."""
    if isinstance(error, RayActorError) and (lost := LOST_PROCESS.search(str(error))):
        return f"{lost['name']} (process {lost['pid']} on {lost['ip']}) was lost{' with its node' if 'node has died' in str(error) else ''}"
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def ended_meanwhile(before: int) -> str:
    """What explains most processes that vanish; known of the machine of this process alone.

    Args:
        before: `ended_for_memory()` of a moment when all was well.
    """
    ended = ended_for_memory() - before
    return f"; the kernel of {platform.node()} ended {format_count(ended, 'process', 'processes')} for want of memory" if ended > 0 else ""


def innermost(error: BaseException) -> BaseException:
    """Ray wraps what a worker raised; the wrapping chain ends at the error itself."""
    seen: BaseException = error
    while not isinstance(seen, OrchestratorError):
        inner = next((found for name in WRAPPINGS if isinstance(found := getattr(seen, name, None), BaseException)), None)
        if inner is None or inner is seen:
            break
        seen = inner
    return seen
