"""The Ray cluster that does the work: one of our own on this machine, or one that runs already."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.core.generated.gcs_pb2 import PlacementGroupTableData
from ray.data import DataContext
from ray.util.placement_group import PlacementGroup, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator import __version__
from orchestrator.dataset.sources.storage import is_address
from orchestrator.errors import ClusterError, OrchestratorError, StorageError
from orchestrator.plan.values import ClusterShape
from orchestrator.stages.environment import SETTINGS

ANSWER_S = 10.0
"""A node that lives answers a task of no CPU well within this time, also while it imports our package for the first time."""
NODES_SETTLE_S = 90.0
"""Ray declares a node dead about 15 s after it was killed, 33 s after its network was cut."""
DRAINED = 3
"""Why a node died, in Ray's numbers: it was drained because its machine was taken away."""
IN_SUBMITTED_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by Ray for the process of a submitted job, whose runtime environment carries the settings already."""


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
    except Exception as error:
        raise ClusterError(f"Ray did not start on this machine: {error}", "orchestrator doctor names what is missing") from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def running_cluster(address: str) -> Iterator[tuple[ClusterShape, str]]:
    """Connect to a cluster that runs already, for as long as the context lasts: its shape, and `HOST:PORT` of its dashboard.

    Args:
        address: As Ray's variable `RAY_ADDRESS` has it: `auto` or `HOST:PORT`.

    Raises:
        ClusterError: It cannot be reached, or does not accept our token.
    """
    _quieten()
    runtime_env = {} if IN_SUBMITTED_JOB in os.environ else {"env_vars": worker_environment()}
    try:
        context = ray.init(address=address, runtime_env=runtime_env, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:
        message = f"the Ray cluster at RAY_ADDRESS={address} cannot be joined: {str(error).splitlines()[0]}"
        raise ClusterError(message, "check the address and the token, or unset RAY_ADDRESS to work on this machine") from error
    try:
        yield cluster_shape(), context.dashboard_url or ""
    finally:
        ray.shutdown()


def worker_environment() -> dict[str, str]:
    """What every process of a job on a running cluster finds in its environment; the token is there already."""
    return {name: os.environ.get(name, value) for name, value in SETTINGS.items() if not name.startswith("RAY_AUTH")}


def cluster_shape() -> ClusterShape:
    """What the nodes that Ray counts as alive have. Nodes without CPUs only manage."""
    return _shape(_working_nodes())


def answering_shape() -> ClusterShape:
    """The same, counting only nodes that answer: for some seconds Ray counts a killed node as alive.

    Raises:
        ClusterError: Nodes that Ray counts as alive do not answer for longer than Ray needs to notice a death.
    """
    deadline = time.monotonic() + NODES_SETTLE_S
    while True:
        nodes = _working_nodes()
        silent = _silent(nodes)
        if not silent:
            return _shape(nodes)
        if time.monotonic() > deadline:
            raise ClusterError(f"no answer from {', '.join(silent)}", "look at the cluster with: ray status")


def check_nodes(root: Path, source: str) -> None:
    """Every node must see the root and the images, and have this version of the program.

    Raises:
        StorageError: A node does not see what this one sees.
        ClusterError: A node has another version of the program, or none.
    """
    nodes = _working_nodes()
    here = ray.get_runtime_context().get_node_id()
    if all(node["NodeID"] == here for node in nodes):
        return
    root.mkdir(parents=True, exist_ok=True)
    mark = root / f".seen-by-all-nodes-{os.getpid()}-{time.time_ns()}"
    mark.touch()
    try:
        asked = [(_name(node), on_node(node["NodeID"], _look_around)) for node in nodes]  # names need not differ
        answers = [(name, look.remote(str(mark), source)) for name, look in asked]
        faults = [fault for name, answer in answers if (fault := _fault(name, answer, root, source))]
    finally:
        mark.unlink()
    if faults:
        raise type(faults[0])("; ".join(fault.message for fault in faults), faults[0].next_step)


def _look_around(mark: str, source: str) -> tuple[bool, bool, str]:
    """What this node sees of the root and of the images, and its version of the program."""
    return Path(mark).exists(), _is_there(source), __version__


def _is_there(source: str) -> bool:
    """Whether this node sees the source; an address, or a pattern, is left to the listing and to the workers."""
    return is_address(source) or "*" in source or "{" in source or Path(source).exists()


def _fault(name: str, answer: Any, root: Path, source: str) -> OrchestratorError | None:
    install = "install the same version of orchestrator on all nodes"
    try:
        sees_root, sees_source, version = ray.get(answer, timeout=ANSWER_S * 3)
    except ray.exceptions.RayError as error:
        return ClusterError(f"{name} cannot work: {str(error).strip().splitlines()[-1]}", install)
    if version != __version__:
        return ClusterError(f"{name} has version {version} of orchestrator, this is {__version__}", install)
    missing_here = not _is_there(source)  # then no node is to blame, and the listing says it
    unseen = [path for path, seen in ((str(root), sees_root), (source, sees_source or missing_here)) if not seen]
    if not unseen:
        return None
    next_step = "mount the same storage at the same path on all nodes, or choose such a folder with --root"
    return StorageError(f"{name} does not see {' and '.join(unseen)}", next_step)


def _working_nodes() -> list[dict[str, Any]]:
    """What is taken away soon counts no more: Ray starts nothing there."""
    leaving = draining_nodes()
    return [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1 and node["NodeID"] not in leaving]


def draining_nodes() -> dict[str, float]:
    """Nodes that the cluster is about to take away, by id: when, in seconds since 1970, or 0 where it does not say."""
    return {node: deadline_ms / 1000 for node, deadline_ms in ray._private.state.state.get_draining_nodes().items()}  # noqa: SLF001 -- there is no public way


def taken_nodes() -> set[str]:
    """Ids of the nodes that the cluster takes away or has taken away."""
    return {*draining_nodes()} | {node["NodeID"] for node in ray.nodes() if node.get("DeathReason") == DRAINED}


def free_what_is_left() -> None:
    """Give back the placement groups of this job whose maker is gone: Ray keeps those of an actor that died while the job lives."""
    job = ray.get_runtime_context().get_job_id()
    accessor = ray._private.state.state._connect_and_get_accessor()  # noqa: SLF001 -- there is no public way
    for group in map(PlacementGroupTableData.FromString, accessor.get_placement_group_table()):
        made_by_actor = not ray.ActorID(group.creator_actor_id).is_nil()  # where the driver made it, Ray says of its actor that it is dead
        orphaned = made_by_actor and group.creator_actor_dead and group.creator_job_id.hex() == job
        if orphaned and group.state != PlacementGroupTableData.REMOVED:
            remove_placement_group(PlacementGroup(ray.PlacementGroupID(group.placement_group_id)))


def _shape(nodes: list[dict[str, Any]]) -> ClusterShape:
    cpus = [int(node["Resources"]["CPU"]) for node in nodes]
    gpus = sum(int(node["Resources"].get("GPU", 0)) for node in nodes)
    return ClusterShape(cpus=sum(cpus), gpus=gpus, nodes=max(1, len(nodes)), smallest_node_cpus=min(cpus) if len(cpus) > 1 else 0)


def reading_nodes() -> tuple[str, ...]:
    """Ids of the nodes that read for a worker group: those without a GPU, where they have at least as many CPUs as the others have left.

    Decoding beside the processes that feed a GPU slows those down. Empty where all nodes read.
    """
    nodes = _working_nodes()
    plain = [node for node in nodes if not node["Resources"].get("GPU")]
    left = sum(node["Resources"]["CPU"] - node["Resources"]["GPU"] for node in nodes if node["Resources"].get("GPU"))
    if len(plain) in (0, len(nodes)) or sum(node["Resources"]["CPU"] for node in plain) < left:
        return ()
    return tuple(node["NodeID"] for node in plain)


def _silent(nodes: list[dict[str, Any]]) -> list[str]:
    """The nodes that do not answer in time."""
    asked = {on_node(node["NodeID"], _name).remote(node): _name(node) for node in nodes}
    answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_S) if asked else ([], [])
    return [name for answer, name in asked.items() if answer not in answered or not _answers(answer)]


def _answers(answer: Any) -> bool:
    try:
        ray.get(answer)
    except ray.exceptions.RayError:
        return False
    return True


def on_node(node_id: str, function: Any) -> Any:
    """A function as a task that only this node may run, whatever else runs there."""
    strategy = NodeAffinitySchedulingStrategy(node_id, soft=False)
    return ray.remote(function).options(num_cpus=0, scheduling_strategy=strategy, max_retries=0)


def _name(node: dict[str, Any]) -> str:
    return f"node {node['NodeManagerHostname']} ({node['NodeManagerAddress']})"


def _quieten() -> None:
    """Ray's own chatter; what matters of it reaches the user as events and errors."""
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"ray\..*")
    for name, level in (("ray", logging.ERROR), ("ray.data", logging.ERROR), ("ray.train", logging.CRITICAL)):
        logging.getLogger(name).setLevel(level)
    DataContext.get_current().enable_progress_bars = False
