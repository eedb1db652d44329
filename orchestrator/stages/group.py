"""A worker group of Ray Train: started, watched, and started again when a worker was lost."""

from __future__ import annotations

import math
import shutil
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import ray
import ray.train
import torch
from ray.data import ExecutionOptions
from ray.exceptions import RayActorError, RayError
from ray.train import DataConfig, FailureConfig, RunConfig, ScalingConfig, TrainingFailedError, WorkerGroupError
from ray.train.torch import TorchConfig, TorchTrainer

from orchestrator.errors import Interrupted, OrchestratorError, TrainingError
from orchestrator.plan.make import refit
from orchestrator.plan.values import TrainPlan
from orchestrator.record.journal import Journal
from orchestrator.stages.cluster import answering_shape
from orchestrator.stages.engine import Answer, Argument, GroupWork
from orchestrator.stages.ingest import batches_of_rank, dataset_factory
from orchestrator.stages.stopping import StopRequest
from orchestrator.stages.synthetic import repeated_batches

COLLECTIVE_TIMEOUT_S = 300
"""After this long without an answer from a peer a worker gives up."""


def run_group(work: GroupWork, journal: Journal, stop: StopRequest, attempts: int) -> Any:
    """Run a worker group to its end and return what rank 0 returned.

    An attempt that ends because a worker process, or Ray's process that leads them, was lost is followed by another one, `attempts`
    in all, on the nodes that still answer. An error that the workers raised for the user is final.

    Raises:
        OrchestratorError: What the workers raised.
        TrainingError: The last attempt was lost as well.
        Interrupted: The user asked to stop now.
    """
    for attempt in range(1, attempts + 1):
        nodes, plan = 1, work.plan
        if work.cluster.nodes > 1:
            shape = answering_shape()
            nodes, plan = shape.nodes, (refit(plan, shape) if shape.nodes < work.cluster.nodes else plan)
        journal.record("AttemptStarted", attempt=attempt, workers=plan.workers, nodes=nodes)
        try:
            return _run_attempt(work, plan, attempt, stop)
        except (TrainingFailedError, RayActorError) as error:
            cause = find_cause(error)
            journal.record("AttemptFailed", attempt=attempt, error=first_line(cause))
            if isinstance(cause, OrchestratorError):
                raise cause from error
            if attempt == attempts:
                message = f"the worker group was lost {attempts} times; last: {first_line(cause)}"
                raise TrainingError(message, f"look at the log files under {work.storage} and run the same command again") from error
    raise AssertionError(attempts)


def _run_attempt(work: GroupWork, plan: TrainPlan, attempt: int, stop: StopRequest) -> Any:
    """`fit` blocks and would take over Ctrl-C in the main thread, so it runs in a thread of its own."""
    trainer = make_trainer(work, plan, attempt)
    # Ray takes up what an earlier start of the program left under the same name, and fails where that is half a file.
    shutil.rmtree(work.storage / group_name(work, attempt), ignore_errors=True)
    outcome: list[Any] = []

    def fit() -> None:
        try:
            outcome.append(trainer.fit().return_value)
        except BaseException as error:  # noqa: BLE001 -- handed to the main thread, which raises it
            outcome.append(error)

    thread = threading.Thread(target=fit, name=work.name, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(timeout=0.1)
        if stop.asked and not work.saves_on_stop:
            raise Interrupted(f"stopped in {work.name}; the same command does it again")
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


def group_name(work: GroupWork, attempt: int) -> str:
    """Under which Ray Train keeps what it knows of an attempt; every start of the program counts from 1."""
    return f"{work.name}-{attempt}"


def make_trainer(work: GroupWork, plan: TrainPlan, attempt: int) -> TorchTrainer:
    """Ray Train's description of the group."""
    strategy = "PACK" if plan.device == "cuda" else "SPREAD"  # GPUs of one node exchange gradients faster
    free_cpus = work.cluster.node_cpus - plan.worker_cpus * math.ceil(plan.workers / work.cluster.nodes)
    resources = {"CPU": plan.worker_cpus} | ({"GPU": 1} if plan.device == "cuda" else {})
    make_feed = partial(work.make_feed, plan.workers)
    repeated = make_feed() if work.repeats else None
    return TorchTrainer(
        _run_worker,
        train_loop_config={"work": work.run_one_worker, "settings": work.settings, "threads": plan.threads, "repeated": repeated},
        scaling_config=ScalingConfig(
            num_workers=plan.workers, use_gpu=plan.device == "cuda", resources_per_worker=resources, placement_strategy=strategy
        ),
        torch_config=TorchConfig(backend="nccl" if plan.device == "cuda" else "gloo", timeout_s=COLLECTIVE_TIMEOUT_S),
        run_config=RunConfig(
            name=group_name(work, attempt),
            storage_path=str(work.storage),
            failure_config=FailureConfig(max_failures=0, controller_failure_limit=0),
        ),
        datasets={} if work.repeats else {"feed": dataset_factory(make_feed, free_cpus)},
        dataset_config=DataConfig(execution_options=ExecutionOptions(preserve_order=True), enable_shard_locality=False),
    )


def _run_worker(config: dict[str, Any]) -> Any:
    context = ray.train.get_context()
    torch.set_num_threads(config["threads"])
    rank, workers, repeated = context.get_world_rank(), context.get_world_size(), config["repeated"]
    if repeated is not None:
        return config["work"](config["settings"], repeated_batches(repeated, rank))
    return config["work"](config["settings"], batches_of_rank(ray.train.get_dataset_shard("feed"), rank, workers))


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
        cause = _innermost(error)
        if isinstance(cause, OrchestratorError):
            raise cause from error
        message = f"{call.__name__} was lost: {first_line(cause)}"
        raise TrainingError(message, "run the same command again; train.micro_batch=N does without it") from error


def find_cause(error: TrainingFailedError | RayActorError) -> BaseException:
    """The error of ours that a worker raised, else the first one that Ray reports."""
    failures = list(error.worker_failures.values()) if isinstance(error, WorkerGroupError) else [error]
    causes = [_innermost(failure) for failure in failures]
    return next((cause for cause in causes if isinstance(cause, OrchestratorError)), causes[0] if causes else error)


def first_line(error: BaseException) -> str:
    """What an error says; its kind where it says nothing, as a bare `assert`."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _innermost(error: BaseException) -> BaseException:
    """Ray wraps what a worker raised; the wrapping chain ends at the error itself."""
    seen: BaseException = error
    while True:
        if isinstance(seen, OrchestratorError):
            return seen
        inner = getattr(seen, "cause", None) or getattr(seen, "_base_exc", None) or seen.__cause__
        if not isinstance(inner, BaseException) or inner is seen:
            return seen
        seen = inner
