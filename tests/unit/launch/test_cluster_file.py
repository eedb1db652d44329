"""The cluster files of the repository against strict schemas, and what is read from such files."""

from __future__ import annotations

import json
import re
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from orchestrator.errors import JobError
from orchestrator.launch.cluster_file import read_cluster_file
from orchestrator.plan.values import ClusterShape

CLUSTER = Path(__file__).parents[3] / "cluster"
RAY_UP = ("local.yaml", "autoscaling-aws.yaml", "autoscaling-gcp.yaml")
TEXT = {"type": "string", "minLength": 1}
COUNT = {"type": "integer", "minimum": 0}


def table(required: str, optional: str = "", **kinds: Any) -> dict[str, Any]:
    """A mapping with these keys and no other; what `kinds` leaves open may be anything."""
    names = [*required.split(), *optional.split()]
    return {
        "type": "object",
        "required": required.split(),
        "properties": {name: kinds.get(name, {}) for name in names},
        "additionalProperties": False,
    }


def items(kind: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "minItems": 1, "items": kind}


# Keys as in the KubeRay CRD API reference, v1.6, and the Kubernetes API: those that the file uses, and no others.
QUANTITIES = {"type": "object", "additionalProperties": {"type": "string", "pattern": r"^\d+(Gi|Mi|m)?$"}}
CONTAINER = table(
    "name image resources volumeMounts",
    name=TEXT,
    image={"type": "string", "pattern": r"^[\w./-]+:[\w.-]+$"},
    resources=table("requests limits", requests=QUANTITIES, limits=QUANTITIES),
    volumeMounts=items(table("name mountPath", name=TEXT, mountPath={"type": "string", "pattern": "^/"})),
)
VOLUME = table(
    "name",
    "persistentVolumeClaim emptyDir",
    name=TEXT,
    persistentVolumeClaim=table("claimName", claimName=TEXT),
    emptyDir=table("medium sizeLimit", medium={"const": "Memory"}, sizeLimit=TEXT),
)
POD = table("spec", spec=table("containers volumes", containers=items(CONTAINER), volumes=items(VOLUME)))
START_PARAMS = {"type": "object", "additionalProperties": {"type": "string"}}
WORKERS = table(
    "groupName replicas minReplicas maxReplicas rayStartParams template",
    groupName=TEXT,
    replicas=COUNT,
    minReplicas=COUNT,
    maxReplicas=COUNT,
    rayStartParams=START_PARAMS,
    template=POD,
)
RAY_CLUSTER = table(
    "rayVersion authOptions headGroupSpec workerGroupSpecs",
    rayVersion={"const": "2.60.0"},
    authOptions=table("mode", mode={"const": "token"}),
    headGroupSpec=table("rayStartParams template", rayStartParams=START_PARAMS, template=POD),
    workerGroupSpecs=items(WORKERS),
)
RAY_JOB = table(
    "apiVersion kind metadata spec",
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayJob"},
    metadata=table("name", "namespace labels annotations", name={"type": "string", "pattern": r"^[a-z0-9-]{1,47}$"}),
    spec=table(
        "entrypoint rayClusterSpec",
        "backoffLimit shutdownAfterJobFinishes ttlSecondsAfterFinished runtimeEnvYAML submissionMode activeDeadlineSeconds",
        entrypoint=TEXT,
        backoffLimit=COUNT,
        shutdownAfterJobFinishes={"type": "boolean"},
        ttlSecondsAfterFinished=COUNT,
        runtimeEnvYAML=TEXT,
        rayClusterSpec=RAY_CLUSTER,
    ),
)
AWS_NODE = table("InstanceType", "ImageId BlockDeviceMappings SubnetIds KeyName InstanceMarketOptions", InstanceType=TEXT)
GCP_DISK = table(
    "boot autoDelete type initializeParams",
    boot={"type": "boolean"},
    autoDelete={"type": "boolean"},
    type={"const": "PERSISTENT"},
    initializeParams=table("diskSizeGb sourceImage", diskSizeGb=COUNT, sourceImage={"type": "string", "pattern": "^projects/"}),
)
GCP_NODE = table(
    "machineType disks",
    "scheduling metadata guestAccelerators",
    machineType=TEXT,
    disks=items(GCP_DISK),
    scheduling=items(table("", "onHostMaintenance preemptible")),
    metadata=table("items", items=items(table("key value", key=TEXT, value=TEXT))),
)


def node_types(node_config: dict[str, Any]) -> dict[str, Any]:
    node = table(
        "resources node_config",
        "min_workers max_workers",
        resources=table("CPU", "GPU", CPU=COUNT, GPU=COUNT),
        node_config=node_config,
        min_workers=COUNT,
        max_workers=COUNT,
    )
    return {"type": "object", "minProperties": 2, "additionalProperties": node}


STRICTER = {
    "local.yaml": {"provider": table("type head_ip worker_ips", type={"const": "local"}, worker_ips=items(TEXT))},
    "autoscaling-aws.yaml": {
        "provider": table("type region", "cache_stopped_nodes availability_zone", type={"const": "aws"}),
        "available_node_types": node_types(AWS_NODE),
    },
    "autoscaling-gcp.yaml": {
        "provider": table("type project_id region availability_zone", "cache_stopped_nodes", type={"const": "gcp"}),
        "available_node_types": node_types(GCP_NODE),
    },
}
"""What Ray's own schema leaves open."""

SBATCH = {"job-name", "nodes", "ntasks-per-node", "cpus-per-task", "gpus-per-node", "exclusive", "time", "signal", "requeue", "open-mode"}
SBATCH |= {"output", "partition", "mem"}


def read(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((CLUSTER / name).read_text()))


@pytest.mark.parametrize("name", RAY_UP)
def test_files_for_ray_up_fit_rays_schema_and_a_stricter_one(name: str) -> None:
    """No key that Ray or the cloud does not know, and none of the wrong type."""
    spec = find_spec("ray")
    assert spec is not None
    assert spec.submodule_search_locations
    schema = json.loads((Path(spec.submodule_search_locations[0]) / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(read(name), schema)
    jsonschema.validate(read(name), {"type": "object", "properties": STRICTER[name]})


def test_the_kuberay_manifest_fits_a_strict_schema() -> None:
    """Only fields of a RayJob, requests equal to limits, and every mount has its volume."""
    manifest = read("kuberay-rayjob.yaml")
    jsonschema.validate(manifest, RAY_JOB)
    cluster = manifest["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert set(yaml.safe_load(manifest["spec"]["runtimeEnvYAML"])) == {"env_vars"}


@pytest.mark.parametrize("change", [("spec", "entrypiont"), ("metadata", "lables")])
def test_the_strict_schema_is_strict(change: tuple[str, str]) -> None:
    """A mistyped key is found."""
    manifest = read("kuberay-rayjob.yaml")
    manifest[change[0]][change[1]] = "x"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(manifest, RAY_JOB)


def test_the_slurm_script_is_a_script_with_known_directives() -> None:
    """bash can read it, and every #SBATCH line is an option of sbatch that stands before the first command."""
    script = CLUSTER / "slurm.sbatch"
    subprocess.run(["bash", "-n", str(script)], check=True)
    lines = script.read_text().splitlines()
    directives = [line for line in lines if line.startswith("#SBATCH")]
    first_command = next(place for place, line in enumerate(lines) if line and not line.startswith("#"))

    assert {re.split(r"[= ]", line.removeprefix("#SBATCH --"))[0] for line in directives} <= SBATCH
    assert all(lines.index(line) < first_command for line in directives)


@pytest.mark.parametrize("name", RAY_UP)
def test_every_cluster_asks_for_the_token(name: str) -> None:
    """Each start command turns authentication on, and keeps the dashboard on loopback."""
    data = read(name)
    starts = [command for key in ("head", "worker") for command in data[f"{key}_start_ray_commands"] if "ray start" in command]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token" in command for command in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("local.yaml", ClusterShape(cpus=48, gpus=6, nodes=3, smallest_node_cpus=16)),
        ("autoscaling-aws.yaml", ClusterShape(cpus=48, gpus=8, nodes=4, smallest_node_cpus=8)),
        ("autoscaling-gcp.yaml", ClusterShape(cpus=48, gpus=8, nodes=4, smallest_node_cpus=8)),
        ("kuberay-rayjob.yaml", ClusterShape(cpus=48, gpus=8, nodes=4, smallest_node_cpus=8)),
        ("slurm.sbatch", ClusterShape(cpus=64, gpus=8, nodes=2, smallest_node_cpus=32)),
    ],
)
def test_the_shape_of_each_file_is_known_without_a_cluster(name: str, shape: ClusterShape) -> None:
    """Nodes that are up at the start; a head without CPUs does not count."""
    assert read_cluster_file(CLUSTER / name) == shape


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: shapes\n", "is no cluster file"),
        ("cluster_name: a\navailable_node_types: {head: {resources: {}}}\n", "head.resources does not say how many CPUs"),
        ("cluster_name: a\navailable_node_types: [head]\n", "is not built as its kind"),
        ("cluster_name: a\navailable_node_types: {head: {resources: {CPU: 0}}}\nhead_node_type: head\n", "no node with CPUs"),
        ("cluster_name: a\nprovider: {type: local}\n", "head_start_ray_commands does not say --num-cpus"),
        ("kind: RayCluster\nspec: {headGroupSpec: {rayStartParams: {num-cpus: 1.5}}}\n", "headGroupSpec does not say in whole numbers"),
        ("#!/bin/bash\n#SBATCH --nodes=2\n", "does not say --cpus-per-task"),
        ("#!/bin/bash\n#SBATCH --nodes=2\n#SBATCH --cpus-per-task=4\n#SBATCH --gpus-per-node=a100\n", "is not built as its kind"),
        ("a: [\n", "cluster:"),
    ],
)
def test_a_file_that_does_not_say_it_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """One line with the place in the file, exit code 2."""
    path = tmp_path / "cluster"
    path.write_text(text)
    with pytest.raises(JobError, match=re.escape(message)) as raised:
        read_cluster_file(path)
    assert raised.value.exit_code == 2
