"""A real Ray cluster of several nodes on this machine, each with its own folder and ports."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

PORTS = iter(range(21_000 + os.getpid() % 100 * 60, 32_000))
"""Between the ports of Ray's workers and those that the system gives away."""
START_DEADLINE_S = 60


def free_port() -> int:
    for port in PORTS:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")


class RayNodes:
    """A head and further nodes; killing a node ends its raylet and all that runs on it, as a machine that loses power would.

    Args:
        count: Nodes in all.
        cpus: Logical CPUs of each node.
        hidden: An existing folder that only the head sees; takes the right to mount.
        token: File of the secret; one of its own where it is left out.
        head_gpus: GPUs that the head claims to have.
        head_cpus: Logical CPUs of the head, where they are not those of the others.
    """

    def __init__(
        self,
        count: int = 2,
        cpus: int = 2,
        hidden: Path | None = None,
        token: Path | None = None,
        head_gpus: int = 0,
        head_cpus: int | None = None,
    ) -> None:
        self.cpus, self.hidden = cpus, hidden
        self.folder = Path(tempfile.mkdtemp(prefix="nodes-"))
        self.token = token or self._make_token()
        self.environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_health_check_period_ms": "1000",
            "RAY_health_check_timeout_ms": "2000",
            "RAY_health_check_failure_threshold": "3",
        }
        self.environment.pop("RAY_ADDRESS", None)
        self.nodes: list[subprocess.Popen[bytes]] = []
        gcs, dashboard = free_port(), free_port()
        self.gcs_address = f"127.0.0.1:{gcs}"
        self.address = f"http://127.0.0.1:{dashboard}"
        head = ["--head", f"--port={gcs}", f"--dashboard-port={dashboard}", "--dashboard-host=127.0.0.1"]
        try:
            self._start("0", [*head, f"--num-cpus={cpus if head_cpus is None else head_cpus}", f"--num-gpus={head_gpus}"])
            self._wait_for(bool)
            for _ in range(1, count):
                self.add_node()
        except BaseException:
            self.close()
            raise

    def add_node(self) -> str:
        """One node more; its id."""
        before = self._living_nodes()
        self._start(str(len(self.nodes)), [f"--address={self.gcs_address}", f"--num-cpus={self.cpus}"], self.hidden)
        self._wait_for(lambda nodes: bool(nodes - before))  # one that was killed just now may still be among them
        (added,) = self._living_nodes() - before
        return added

    def drain(self, node: str, deadline_s: int) -> None:
        """Tell the cluster that the machine of a node is taken away, as an autoscaler does."""
        reason = ["--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=taken away", f"--deadline-remaining-seconds={deadline_s}"]
        command = [sys.executable, "-m", "ray.scripts.scripts", "drain-node", f"--address={self.gcs_address}", f"--node-id={node}", *reason]
        subprocess.run(command, env=self.environment, check=True, capture_output=True, timeout=60)

    def _make_token(self) -> Path:
        token = self.folder / "token"
        token.write_text("a-secret-of-this-test-alone-0123456789abcdef")
        token.chmod(0o600)
        return token

    def _start(self, name: str, options: list[str], hidden: Path | None = None) -> None:
        ports = [f"--{kind}={free_port()}" for kind in ("dashboard-agent-listen-port", "dashboard-agent-grpc-port", "metrics-export-port")]
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *options, *ports]
        if hidden:  # an empty file system lies over the folder, for this node alone
            mount = f'mount -t tmpfs none "{hidden}" && exec "$@"'
            command = ["unshare", "--mount", "bash", "-c", mount, "bash", *command]
        with (self.folder / f"{name}.log").open("w") as log:
            self.nodes.append(
                subprocess.Popen([*command, f"--temp-dir={self.folder / name}"], env=self.environment, stdout=log, stderr=subprocess.STDOUT)
            )

    def _wait_for(self, joined: Callable[[set[str]], bool]) -> None:
        deadline = time.monotonic() + START_DEADLINE_S
        while not joined(self._living_nodes()):
            assert time.monotonic() < deadline, [log.read_text() for log in self.folder.glob("*.log")]
            time.sleep(0.2)

    def _living_nodes(self) -> set[str]:
        with closing(HTTPConnection(self.address.removeprefix("http://"), timeout=5)) as connection:
            try:
                connection.request("GET", "/nodes?view=summary", headers={"Authorization": f"Bearer {self.token.read_text()}"})
                answer = json.load(connection.getresponse())
            except (OSError, ValueError):
                return set()
        return {node["raylet"]["nodeId"] for node in answer["data"]["summary"] if node["raylet"].get("state") == "ALIVE"}

    def kill_second_node(self) -> None:
        """SIGKILL for its raylet; what runs on the node goes down with it."""
        (raylet,) = self._processes("1", program="raylet")
        os.kill(raylet, signal.SIGKILL)

    def close(self) -> None:
        """End every process of all nodes and remove their folders."""
        for node in reversed(self.nodes):  # the head last: the others say goodbye to it
            node.terminate()
            try:
                node.wait(8)
            except subprocess.TimeoutExpired:
                node.kill()
                node.wait()
        for number in range(len(self.nodes)):
            for process in self._processes(str(number)):
                os.kill(process, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _processes(self, name: str, program: str = "") -> list[int]:
        """Processes whose command line names the folder of a node."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
            except OSError:
                continue
            named = any(bytes(self.folder / name) in word for word in words)
            if named and (not program or words[0].endswith(b"/" + program.encode())):
                found.append(int(entry.name))
        return found
