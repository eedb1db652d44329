"""What pyarrow makes of S3 and of its failures: the ground that reading from object storage stands on.

Only a missing key has a class of its own. Everything else is an `OSError` without an errno, told apart by its message alone.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pyarrow.fs as pafs
import pytest
from faulty_proxy import FaultyProxy
from s3_server import S3Server

ALWAYS = 1_000
BUSY = r"(SLOW_DOWN|SERVICE_UNAVAILABLE) during GetObject"
"""The same answer has one name or the other, depending on whether its body was read."""
CONTENT = bytes(range(256)) * 400


@pytest.fixture
def bucket(s3_server: S3Server, tmp_path: Path) -> str:
    """Two objects, one of them with a name that has to be quoted."""
    (tmp_path / "set" / "a b").mkdir(parents=True)
    (tmp_path / "set" / "a b" / "é.bin").write_bytes(CONTENT)
    (tmp_path / "set" / "plain.bin").write_bytes(CONTENT)
    s3_server.upload(tmp_path / "set", "pictures", "set")
    return "pictures"


@pytest.fixture
def one_attempt(s3_proxy: FaultyProxy) -> pafs.S3FileSystem:
    """pyarrow without retries, behind the proxy."""
    return pafs.S3FileSystem(endpoint_override=s3_proxy.endpoint, request_timeout=1, retry_strategy=pafs.AwsStandardS3RetryStrategy(1))


def read(system: pafs.FileSystem, path: str = "pictures/set/plain.bin") -> bytes:
    with system.open_input_file(path) as file:
        content: bytes = file.read_at(file.size(), 0)
        return content


def test_an_address_and_the_environment_are_enough(s3_server: S3Server, bucket: str) -> None:
    """`s3://bucket/prefix` lists every object, and ranges of an object are read, with keys and endpoint from the environment."""
    system, path = pafs.FileSystem.from_uri(s3_server.uri(bucket, "set"))
    found = {info.path: info.size for info in system.get_file_info(pafs.FileSelector(path, recursive=True)) if info.is_file}

    assert found == {"pictures/set/a b/é.bin": len(CONTENT), "pictures/set/plain.bin": len(CONTENT)}
    with system.open_input_file("pictures/set/a b/é.bin") as file:
        assert file.read_at(7, 250) == CONTENT[250:257]
        assert file.read_at(100, len(CONTENT) - 3) == CONTENT[-3:]


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_both_names_of_the_endpoint_are_honoured(s3_server: S3Server, bucket: str, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The general one and the one of the service."""
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setenv(variable, s3_server.endpoint)
    system, path = pafs.FileSystem.from_uri(s3_server.uri(bucket, "set/plain.bin"))
    assert read(system, path) == CONTENT


def test_an_address_can_name_its_endpoint(s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`?endpoint_override=host:port&scheme=http` needs no variable but the keys."""
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    host = s3_server.endpoint.removeprefix("http://")
    system, path = pafs.FileSystem.from_uri(f"s3://{bucket}/set/plain.bin?endpoint_override={host}&scheme=http")
    assert read(system, path) == CONTENT


def test_a_missing_key_and_a_bucket_that_is_not_there(s3_server: S3Server, bucket: str) -> None:
    """Opening either is FileNotFoundError; only listing a missing bucket is another OSError."""
    system, _ = pafs.FileSystem.from_uri(s3_server.uri(bucket))
    for missing in (f"{bucket}/nothing", "no-such-bucket/nothing"):
        with pytest.raises(FileNotFoundError):
            system.open_input_file(missing)
    with pytest.raises(OSError, match="NO_SUCH_BUCKET"):
        system.get_file_info(pafs.FileSelector("no-such-bucket"))


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda proxy: proxy.fail(ALWAYS, 403), r"ACCESS_DENIED during HeadObject"),
        (lambda proxy: proxy.fail(ALWAYS, 403, "GET"), r"ACCESS_DENIED during GetObject"),
        (lambda proxy: proxy.fail(ALWAYS, 404, "GET"), r"RESOURCE_NOT_FOUND during GetObject"),
        (lambda proxy: proxy.fail(ALWAYS, 429), r"HTTP status 429"),
        (lambda proxy: proxy.fail(ALWAYS, 500), r"HTTP status 500"),
        (lambda proxy: proxy.fail(ALWAYS, 500, "GET"), r"INTERNAL_FAILURE during GetObject"),
        (lambda proxy: proxy.fail(ALWAYS, 503, "GET"), BUSY),
        (lambda proxy: proxy.hang_up(ALWAYS, "GET"), r"NETWORK_CONNECTION during GetObject"),
        (lambda proxy: proxy.cut(ALWAYS), r"NETWORK_CONNECTION during GetObject"),
        (lambda proxy: proxy.delay(ALWAYS, 3, "GET"), r"NETWORK_CONNECTION during GetObject.*Timeout"),
    ],
)
def test_every_failure_is_an_oserror_with_a_name_in_its_message(
    bucket: str, s3_proxy: FaultyProxy, one_attempt: pafs.S3FileSystem, break_it: Callable[[FaultyProxy], None], message: str
) -> None:
    """No class and no errno tell denied from busy: the message does. Afterwards the same object reads well."""
    break_it(s3_proxy)
    with pytest.raises(OSError, match=message) as raised:
        read(one_attempt)

    assert type(raised.value) is OSError
    assert raised.value.errno is None
    s3_proxy.heal()
    assert read(one_attempt) == CONTENT


def test_a_file_system_by_address_tries_thirty_times(bucket: str, s3_proxy: FaultyProxy) -> None:
    """A storm of 503 that ends is not noticed; one that stays costs 31 requests, 0.2 s apart, for each call."""
    system, path = pafs.FileSystem.from_uri(f"s3://{bucket}/set/plain.bin")
    s3_proxy.fail(3, 503, "GET")
    assert read(system, path) == CONTENT
    s3_proxy.fail(ALWAYS, 503, "GET")
    with pytest.raises(OSError, match=BUSY):
        read(system, path)
    assert sum(request.startswith("GET") for request in s3_proxy.requests) == 31


def test_a_file_system_forgets_its_retries_when_it_travels(bucket: str, s3_proxy: FaultyProxy) -> None:
    """Pickled to a worker it makes pyarrow's own three attempts, whatever was chosen: a worker has to open its own."""
    system = pafs.S3FileSystem(endpoint_override=s3_proxy.endpoint, retry_strategy=pafs.AwsStandardS3RetryStrategy(1))
    for opened, attempts in ((system, 1), (pickle.loads(pickle.dumps(system)), 3)):  # noqa: S301 - what Ray does
        s3_proxy.fail(ALWAYS, 503, "GET")
        with pytest.raises(OSError, match=BUSY):
            read(opened)
        assert sum(request.startswith("GET") for request in s3_proxy.requests) == attempts


@pytest.mark.usefixtures("s3_server")
def test_nobody_listens() -> None:
    """A refused connection and a name that does not resolve are told apart by curl's number."""
    for endpoint, message in (("http://127.0.0.1:9", "curlCode: 7"), ("http://no-such-host.invalid", "curlCode: 6")):
        system = pafs.S3FileSystem(endpoint_override=endpoint, retry_strategy=pafs.AwsStandardS3RetryStrategy(1))
        with pytest.raises(OSError, match=message):
            read(system)
