"""What Ray Train leads a worker group with, in this process instead of one of its own.

That process would have to start before the workers, which costs a tenth of the time to the first step, and could be lost.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import ray
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.execution.controller.controller import TrainController
from ray.train.v2._internal.execution.worker_group.worker_group import WorkerGroup

from orchestrator.errors import Interrupted


class LedGroup(WorkerGroup):  # type: ignore[misc]  # Ray ships no types
    """Workers that know of no actor which leads them: they would ask it for checkpoints of Ray's, of which there are none."""

    def _start(self) -> None:
        try:
            super()._start()
        except Exception:
            if self.has_started():  # Ray Train forgets a group whose backend could not be set up, and with it the CPUs it has
                self._worker_group_state.shutdown()
            raise

    def _init_train_context_on_workers(self, workers: list[Any], sync_actor: Any, arguments: dict[str, list[Any]]) -> None:
        told = [
            worker.actor.init_train_context.remote(
                train_run_context=self._train_run_context,
                distributed_context=worker.distributed_context,
                synchronization_actor=sync_actor,
                storage_context=self._storage_context,
                worker_callbacks=self._worker_callbacks_to_propagate,
                controller_actor=None,
                **{name: values[place] for name, values in arguments.items()},
            )
            for place, worker in enumerate(workers)
        ]
        ray.get(told)
        self._decorate_worker_log_file_paths(workers)


class Leader(TrainController):  # type: ignore[misc]  # Ray ships no types
    """Starts the workers and watches them, until they have ended or nobody waits for them any more."""

    worker_group_cls = LedGroup

    def __init__(self, given_up: threading.Event, **settings: Any) -> None:
        super().__init__(**settings)
        self._given_up = given_up

    async def _run_control_loop_iteration(self) -> None:
        """Raises:
        Interrupted: It was given up; the workers are gone.
        """
        if self._given_up.is_set():
            if self.get_worker_group() is not None:
                self._shutdown_worker_group()
            raise Interrupted("nobody waits for the workers any more")
        await super()._run_control_loop_iteration()


class GroupTrainer(TorchTrainer):  # type: ignore[misc]  # Ray ships no types
    """Ray Train's trainer without three processes that it starts for every group.

    The one that leads the workers is this one. The one that hands out datasets is idle, because the streams are made here. The one that
    gives back what a lost leader held asks whatever Ray it finds on this machine, and takes the CPUs away from a group that lives when
    that Ray is another one; `free_what_is_left` does it instead.
    """

    def __init__(self, *positional: Any, **settings: Any) -> None:
        super().__init__(*positional, **settings)
        self.given_up = threading.Event()
        """Set when nobody waits for `fit` any more, which then ends the workers and raises Interrupted."""

    def _create_default_callbacks(self) -> list[Any]:
        unwanted = (DatasetsCallback, PlacementGroupCleanerCallback)
        return [callback for callback in super()._create_default_callbacks() if not isinstance(callback, unwanted)]

    def _initialize_and_run_controller(self, **settings: Any) -> Any:
        leader = Leader(self.given_up, **settings)
        asyncio.run(leader.run())
        return leader.get_result()
