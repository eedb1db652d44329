"""What a cluster file promises to compute with, read without a cluster: `ray up` files, KubeRay manifests, Slurm batch scripts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from orchestrator.errors import JobError, Problem
from orchestrator.plan.values import ClusterShape
from orchestrator.spec.load import read_text
from orchestrator.spec.yaml import load_yaml

GPU_KEY = "nvidia.com/gpu"
Node = tuple[int, int]
"""CPUs and GPUs."""


def read_cluster_file(path: Path) -> ClusterShape:
    """The nodes that are up when such a cluster has started: of pools that grow, their least size.

    Raises:
        JobError: The file is none of the three kinds, or does not say what its nodes have.
    """
    text = read_text(path)
    try:
        return _shape(_nodes(text, path), path)
    except (AttributeError, TypeError, ValueError, KeyError, IndexError) as error:
        raise _fault(path, f"is not built as its kind of cluster file is ({type(error).__name__}: {error})") from error


def _nodes(text: str, path: Path) -> Iterable[Node]:
    if text.startswith("#!"):
        return _slurm_nodes(text, path)
    data = load_yaml(text, str(path)).data
    if data.get("kind") in ("RayJob", "RayCluster"):
        return _kuberay_nodes(data, path)
    if "cluster_name" in data and "available_node_types" in data:
        return _autoscaler_nodes(data, path)
    if "cluster_name" in data:
        return _own_machines(data, path)
    raise _fault(path, "is no cluster file: neither for ray up, nor a KubeRay RayJob or RayCluster, nor a Slurm batch script")


def _shape(nodes: Iterable[Node], path: Path) -> ClusterShape:
    """Nodes without CPUs only manage."""
    working = [node for node in nodes if node[0] >= 1]
    if not working:
        raise _fault(path, "has no node with CPUs when it starts; raise min_workers or replicas of a pool")
    cpus = [node[0] for node in working]
    return ClusterShape(sum(cpus), sum(node[1] for node in working), len(working), min(cpus) if len(cpus) > 1 else 0)


def _autoscaler_nodes(data: Mapping[str, Any], path: Path) -> Iterable[Node]:
    for name, kind in data["available_node_types"].items():
        resources = kind.get("resources", {})
        if "CPU" not in resources:
            raise _fault(path, f"available_node_types.{name}.resources does not say how many CPUs a node has")
        count = 1 if name == data.get("head_node_type") else kind.get("min_workers", 0)
        yield from [(int(resources["CPU"]), int(resources.get("GPU", 0)))] * count


def _own_machines(data: Mapping[str, Any], path: Path) -> Iterable[Node]:
    provider = data.get("provider", {})
    yield _started_node(data, "head_start_ray_commands", path)
    if workers := provider.get("worker_ips", []):
        yield from [_started_node(data, "worker_start_ray_commands", path)] * len(workers)


def _started_node(data: Mapping[str, Any], key: str, path: Path) -> Node:
    commands = " ".join(data.get(key, []))
    cpus, gpus = re.search(r"--num-cpus[= ](\d+)", commands), re.search(r"--num-gpus[= ](\d+)", commands)
    if cpus is None:
        raise _fault(path, f"{key} does not say --num-cpus")
    return int(cpus[1]), int(gpus[1]) if gpus else 0


def _kuberay_nodes(data: Mapping[str, Any], path: Path) -> Iterable[Node]:
    spec = data.get("spec", {})
    cluster = spec.get("rayClusterSpec", spec)
    yield _pod("headGroupSpec", cluster.get("headGroupSpec", {}), path)
    for group in cluster.get("workerGroupSpecs", []):
        yield from [_pod(f"workerGroupSpecs {group.get('groupName')}", group, path)] * group.get("replicas", 1)


def _pod(name: str, group: Mapping[str, Any], path: Path) -> Node:
    """What Ray is told wins over what the container has."""
    containers = group.get("template", {}).get("spec", {}).get("containers", [{}])
    limits = containers[0].get("resources", {}).get("limits", {})
    told = group.get("rayStartParams", {})
    cpus, gpus = str(told.get("num-cpus", limits.get("cpu", ""))), str(told.get("num-gpus", limits.get(GPU_KEY, "0")))
    if not (cpus.isdecimal() and gpus.isdecimal()):
        raise _fault(path, f"{name} does not say in whole numbers how many CPUs and GPUs its container has (resources.limits)")
    return int(cpus), int(gpus)


def _slurm_nodes(text: str, path: Path) -> list[Node]:
    asked = dict(re.findall(r"^#SBATCH\s+--([a-z-]+)=(\S+)", text, re.MULTILINE))
    missing = [f"--{name}" for name in ("nodes", "cpus-per-task") if not asked.get(name, "").isdecimal()]
    if missing:
        raise _fault(path, f"does not say {' and '.join(missing)} in whole numbers")
    gpus = asked.get("gpus-per-node", "0").rpartition(":")[2]
    return [(int(asked["cpus-per-task"]), int(gpus))] * int(asked["nodes"])


def _fault(path: Path, what: str) -> JobError:
    return JobError((Problem(str(path), what),), "examples are in cluster/")
