"""A real S3 server on this machine, as a process that speaks HTTP on the loopback interface.

What a user sets so that pyarrow reaches such a server is what `S3Server.environment` holds: the two keys, the region and
`AWS_ENDPOINT_URL` (or `AWS_ENDPOINT_URL_S3`), with the scheme. `pyarrow.fs.FileSystem.from_uri("s3://bucket/key")` is then
enough, and so is `s3://bucket/key?endpoint_override=host:port&scheme=http` without the endpoint in the environment. Buckets
are then addressed by path, not by host name. Blanks and other odd characters of a key have to be quoted in an address, and
are not quoted in the paths that the file system takes and gives.

The environment is read when a file system is opened, not when it is used. `tests/interop/test_s3.py` holds pyarrow to all this.
"""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

PROGRAM = Path(sys.prefix) / "s3" / "bin" / "moto_server"
START_S = 30.0
KEYS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
SIGNED = {"Authorization": "AWS4-HMAC-SHA256 Credential=testing/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"}
"""The server checks that a request is signed, not by whom."""


@dataclass(frozen=True)
class S3Server:
    """Where a server listens."""

    endpoint: str

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to reach the server by `s3://bucket/key`."""
        return KEYS | {"AWS_ENDPOINT_URL": self.endpoint}

    def uri(self, bucket: str, key: str = "") -> str:
        return f"s3://{bucket}/{key}".rstrip("/")

    def create_bucket(self, bucket: str) -> None:
        """A bucket that is there already stays as it is."""
        self._request("PUT", f"/{bucket}")

    def upload(self, folder: Path, bucket: str, prefix: str = "") -> str:
        """Copy the files below a folder into a bucket, which is created; the URI of the copy."""
        self.create_bucket(bucket)
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            key = "/".join(part for part in (prefix, path.relative_to(folder).as_posix()) if part)
            self.put(bucket, key, path.read_bytes())
        return self.uri(bucket, prefix)

    def put(self, bucket: str, key: str, content: bytes) -> str:
        self._request("PUT", f"/{bucket}/{key}", content)
        return self.uri(bucket, key)

    def _request(self, method: str, path: str, content: bytes = b"") -> None:
        connection = http.client.HTTPConnection(urlsplit(self.endpoint).netloc, timeout=START_S)
        try:
            connection.request(method, quote(path), content, SIGNED)
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        if response.status >= http.client.BAD_REQUEST:
            raise OSError(f"{method} {path}: {response.status} {answer.decode()}")


@contextmanager
def running_server() -> Iterator[S3Server]:
    """Start a server, wait until it answers, and stop it in the end."""
    port = free_port()
    server = S3Server(f"http://127.0.0.1:{port}")
    with subprocess.Popen([PROGRAM, "-H", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until_it_answers(server, process)
            yield server
        finally:
            process.terminate()


def wait_until_it_answers(server: S3Server, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            server.create_bucket("answers")
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
