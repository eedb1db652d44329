"""A worker group of Ray Train: started, watched, and started again when a worker was lost."""

from __future__ import annotations

import math
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn, cast

import ray
import ray.train
import torch
from ray.data import DataIterator
from ray.exceptions import RayError
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError

from orchestrator.errors import Interrupted, OrchestratorError, TrainingError
from orchestrator.plan.values import TrainPlan
from orchestrator.record.folder import numbered
from orchestrator.record.journal import Journal
from orchestrator.stages.cluster import free_what_is_left, reading_nodes, taken_nodes
from orchestrator.stages.engine import Answer, Argument, GroupWork
from orchestrator.stages.failure import ended_meanwhile, find_cause, first_line, innermost, run_one
from orchestrator.stages.heartbeat import Seat, beating
from orchestrator.stages.ingest import batches_of_rank, stop_reading, streams
from orchestrator.stages.leader import GroupTrainer
from orchestrator.stages.notice import NoticingTorchConfig, heeding_notices
from orchestrator.stages.placing import ReadersLost, ReaderWatch, describe_shape, place, watching_growth
from orchestrator.stages.restart import Fit, RestartInPlace, Restarts
from orchestrator.stages.stopping import StopRequest
from orchestrator.stages.synthetic import repeated_batches
from orchestrator.stages.watchdog import Watchdog
from orchestrator.training.batch import Batch
from orchestrator.training.work import TrainResult, Wish

COLLECTIVE_TIMEOUT_S = 1800
"""After this long without an answer from a peer a worker gives up. The watchdog knows earlier, and can tell hung from slow."""
Batches = list[DataIterator]
"""A stream for each worker; none where they repeat one batch."""
LEAVE_S = 10.0
"""Workers that are to end at once have five seconds for it (`_shutdown_workers` of Ray Train)."""
PREEMPTIONS = 100
"""Starts of a worker group that machines may be taken away from before a run gives up."""


def run_group(work: GroupWork, journal: Journal, stop: StopRequest, attempts: int) -> Any:
    """Run a worker group to its end and return what rank 0 returned.

    An attempt that ends because a worker process, or one of Ray's that they need, was lost is followed by another one, `attempts` in
    all, on the nodes that still answer, and so is one with a worker that is hung; where nothing but workers was lost Ray Train starts
    the group again itself (see `restart`). So is one that ended with a checkpoint because its machine is taken away, or because
    more workers fit; these are counted apart. What the workers raised would only be raised again: it is final.

    Raises:
        OrchestratorError: What the workers raised.
        TrainingError: The last attempt was lost as well.
        ClusterError: Too few nodes are left.
        Interrupted: The user asked to stop now.
    """
    budget, workers = Budget(work, attempts), work.plan.workers
    while True:
        free_what_is_left()
        placed = place(work, journal, stop)
        if placed.plan.workers != workers:
            why = describe_shape(placed.cluster)
            journal.record("GroupResized", from_workers=workers, to_workers=placed.plan.workers, why=why)
        workers, taken = placed.plan.workers, taken_nodes()
        fit = budget.begin(placed, journal)
        journal.record("AttemptStarted", attempt=fit.attempt, workers=workers, nodes=placed.cluster.nodes)
        watchdog = Watchdog(fit.restarts.folder, work.hang_s, run_one.__name__, journal)
        try:
            result = _run_fit(fit, stop, watchdog)
        except (TrainingFailedError, RayError) as error:
            cause = find_cause([error], work.when_memory_ends)
            reason = watchdog.found or first_line(cause) + ended_meanwhile(fit.restarts.starved)
            journal.record("AttemptFailed", attempt=budget.attempt, error=reason)
            if isinstance(cause, OrchestratorError) and not watchdog.found:
                raise cause from error
            budget.spend_on_loss(reason, cause, preempted=bool(taken_nodes() - taken))
        else:
            if not starts_again(result) or stop.asked:
                return result
            if result.ended_by is Wish.LEAVE:
                budget.spend_on_preemption()


def starts_again(result: Any) -> bool:
    """Whether workers ended with a checkpoint for others to go on."""
    return isinstance(result, TrainResult) and result.ended_by in (Wish.REGROUP, Wish.LEAVE)


@dataclass
class Budget:
    """How often a group may still be started again."""

    work: GroupWork
    attempts: int
    fits: list[Fit] = field(default_factory=list)
    losses: int = 0
    """That ended a fit."""
    preemptions: int = 0

    @property
    def attempt(self) -> int:
        """Number of the last start of the group, whoever started it."""
        return len(self.fits) + self._restarts

    @property
    def spare(self) -> int:
        """How many workers may be lost before the last attempt is."""
        return self.attempts - 1 - self.losses - self._restarts

    @property
    def _restarts(self) -> int:
        return sum(fit.restarts.count for fit in self.fits)

    def begin(self, placed: GroupWork, journal: Journal) -> Fit:
        """The driver starts the group, on the nodes and with the plan of now."""
        restarts = Restarts(numbered(self.work.storage, "workers"))
        restarts.folder.mkdir(parents=True)  # now: whether a worker gets as far as to give a sign of life or not, it is taken
        self.fits.append(Fit(placed, self.attempt + 1, self.spare, restarts, journal))
        return self.fits[-1]

    def spend_on_loss(self, reason: str, cause: BaseException, *, preempted: bool) -> None:
        """Raises:
        TrainingError: This was the last attempt.
        """
        if preempted:
            self.spend_on_preemption()
            return
        if self.spare <= 0:
            self._end(f"the worker group was lost {self.attempts} times; last: {reason}", cause)
        self.losses += 1

    def spend_on_preemption(self) -> None:
        """Raises:
        TrainingError: Machines were taken away too often.
        """
        self.preemptions += 1
        if self.preemptions == PREEMPTIONS:
            self._end(f"machines were taken away from the worker group {PREEMPTIONS} times", None)

    def _end(self, message: str, cause: BaseException | None) -> NoReturn:
        raise TrainingError(message, f"look at the log files under {self.work.storage} and run the same command again") from cause


def _run_fit(fit: Fit, stop: StopRequest, watchdog: Watchdog) -> Any:
    """Ray Train blocks and would take over Ctrl-C in the main thread, so it runs in a thread of its own."""
    work, outcome = fit.work, list[Any]()

    def run(trainer: GroupTrainer) -> None:
        try:
            outcome.append(trainer.fit().return_value)
        except BaseException as error:  # noqa: BLE001 -- handed to the main thread, which raises it
            outcome.append(error)

    nodes = reading_nodes()
    with fed(fit, nodes) as batches, watching_growth(work) as look_for_growth:
        readers, trainer = ReaderWatch(batches, nodes), make_trainer(fit, batches)
        thread = threading.Thread(target=run, args=(trainer,), name=work.name, daemon=True)
        thread.start()
        try:
            while thread.is_alive():
                thread.join(timeout=0.1)
                watchdog.look()
                readers.look()
                look_for_growth()
                if stop.asked and not work.saves_on_stop:
                    raise Interrupted(f"stopped in {work.name}; the same command does it again")
        finally:  # where something asks Ray when it ends here, Ray ends the program
            trainer.given_up.set()
            thread.join(LEAVE_S)
    if isinstance(outcome[0], BaseException):
        raise ReadersLost("no node is left of those that read") if readers.lost else outcome[0]
    return outcome[0]


@contextmanager
def fed(fit: Fit, nodes: Sequence[str]) -> Iterator[Batches]:
    """What the workers get their batches from, beginning where training stands now: a stream for each; nothing where they repeat one."""
    work, plan = fit.work, fit.work.plan
    if work.repeats:
        yield []
        return
    free_cpus = work.cluster.node_cpus - plan.worker_cpus * math.ceil(plan.workers / work.cluster.nodes)
    with streams(work.make_feed(plan.workers), free_cpus, nodes, fit.restarts.start_file) as shards:
        yield shards


def make_trainer(fit: Fit, batches: Batches) -> GroupTrainer:
    """Ray Train's description of the group."""
    work, plan, name = fit.work, fit.work.plan, f"{fit.work.name}-{fit.attempt}"
    # Ray takes up what an earlier start of the program left under the same name, and fails where that is half a file.
    shutil.rmtree(work.storage / name, ignore_errors=True)
    rule = RestartInPlace(fit, partial(stop_reading, batches))
    strategy = "PACK" if plan.device == "cuda" else "SPREAD"  # GPUs of one node exchange gradients faster
    resources = {"CPU": plan.worker_cpus} | ({"GPU": 1} if plan.device == "cuda" else {})
    return GroupTrainer(
        _run_worker,
        train_loop_config={"work": work, "batches": batches, "restarts": fit.restarts},
        scaling_config=ScalingConfig(
            num_workers=plan.workers, use_gpu=plan.device == "cuda", resources_per_worker=resources, placement_strategy=strategy
        ),
        torch_config=NoticingTorchConfig(backend="nccl" if plan.device == "cuda" else "gloo", timeout_s=COLLECTIVE_TIMEOUT_S),
        run_config=RunConfig(
            name=name,
            storage_path=str(work.storage),
            callbacks=[rule],
            failure_config=FailureConfig(max_failures=fit.spare, max_preemption_failures=fit.spare, controller_failure_limit=0),
        ),
    )


def _run_worker(config: dict[str, Any]) -> Any:
    context, here = ray.train.get_context(), ray.get_runtime_context()
    rank, workers, work, restarts = context.get_world_rank(), context.get_world_size(), config["work"], config["restarts"]
    torch.set_num_threads(work.plan.threads)
    beats = beating(restarts.folder, Seat(rank, here.get_node_id()), work.hang_s)
    with heeding_notices() if work.saves_on_stop else nullcontext(), beats as pulse:
        batches = restarts.noting(_batches(work, config["batches"], restarts, rank, workers), rank, here.get_node_id())
        return run_one(work, batches, pulse)


def _batches(work: GroupWork, streams: Batches, restarts: Restarts, rank: int, workers: int) -> Iterator[Batch]:
    """What one worker takes, from where training stands now."""
    if work.repeats:
        return repeated_batches(work.make_feed(workers), rank)
    if restarts.count and rank == 0:  # only now that the workers before are gone nobody saves any more
        restarts.begin_at(work.make_feed(workers).start)
    return batches_of_rank(streams[rank], rank, workers)


def run_alone(call: Callable[[Argument], Answer], argument: Argument, plan: TrainPlan) -> Answer:
    """Call a function in a process of its own, which ends with the call, on the CPUs and the GPU of one worker.

    Raises:
        OrchestratorError: What the function raised.
        TrainingError: The process was lost.
    """
    gpus = 1 if plan.device == "cuda" else 0
    task = ray.remote(num_cpus=plan.worker_cpus, num_gpus=gpus, max_calls=1, max_retries=0)(call)
    try:
        return cast(Answer, ray.get(task.remote(argument)))
    except RayError as error:
        cause = innermost(error)
        if isinstance(cause, OrchestratorError):
            raise cause from error
        message = f"{call.__name__} was lost: {first_line(cause)}"
        raise TrainingError(message, "run the same command again; train.micro_batch=N does without it") from error
