"""Storage that images are read from: local folders by the operating system, anything else by pyarrow.

The operating system takes file names as bytes, which pyarrow does not; so only addresses such as `s3://` go through it.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import pyarrow as pa
from pyarrow import fs

from orchestrator.dataset.listing import MISSING_SIZE, printable
from orchestrator.errors import DataError, OrchestratorError

URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
PAUSES_S = (0.5, 1.0, 2.0, 4.0)
"""Before each further try of something that failed for a reason that may pass. Of S3, pyarrow itself tries each one for six seconds."""
FINAL = (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError, ValueError)
"""What trying again does not change."""
DENIED = (
    "ACCESS_DENIED",
    "INVALID_ACCESS_KEY_ID",
    "SIGNATURE_DOES_NOT_MATCH",
    "EXPIRED_TOKEN",
    "NO_SUCH",
    "NOT_FOUND",
    "status 403",
    "status 401",
)
"""What pyarrow's messages call a refusal; it raises the same kind of error for these as for a lost connection."""

T = TypeVar("T")
U = TypeVar("U")


def is_address(source: str) -> bool:
    """Whether pyarrow opens it; a path otherwise."""
    return bool(URI.match(source))


@cache
def _file_system(start: str) -> tuple[fs.FileSystem, str]:
    return fs.FileSystem.from_uri(start)  # type: ignore[no-any-return]  # pyarrow ships no types


def open_address(address: str) -> tuple[fs.FileSystem, str]:
    """The file system of an address, and the path in it.

    Raises:
        DataError: pyarrow does not know such addresses.
    """
    start, mark, options = address.partition("?")
    scheme, _, rest = start.partition("://")
    host, slash, inside = rest.partition("/")
    try:
        system, base = _file_system(f"{scheme}://{host}/{mark}{options}")
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"cannot open {address}: {reason}", "name a local path, or an address such as s3://BUCKET/PATH") from error
    return system, f"{base.rstrip('/')}/{inside}" if host else slash + inside


def folder_of(source: str) -> str:
    """The folder of a file; options of an address stay with it."""
    start, mark, options = source.partition("?") if is_address(source) else (source, "", "")
    return start.rpartition("/")[0] + mark + options


def patiently(do: Callable[[], T], what: str) -> T:
    """What `do` returns; a failure that may pass is waited out, for some seconds in all.

    Raises:
        OSError: A failure that trying again does not change, as it is.
        DataError: The last try failed as well.
    """
    for pause_s in (*PAUSES_S, None):
        try:
            return do()
        except OSError as error:
            if isinstance(error, FINAL):
                raise
            if pause_s is None or any(mark in str(error) for mark in DENIED):
                reason = str(error).splitlines()[0]
                tries = "" if pause_s is not None else f", {len(PAUSES_S) + 1} times"
                raise DataError(f"cannot read {what}{tries}: {reason}", "mend the storage, then run the same command again") from error
        time.sleep(pause_s)
    raise AssertionError(what)


def open_file(source: str) -> pa.NativeFile:
    """A file of a path or an address, for reading in any order."""
    if not is_address(source):
        return pa.OSFile(source)
    system, path = open_address(source)
    return patiently(lambda: system.open_input_file(path), source)


def below(base: str, path: bytes) -> str:
    """A path as seen from a folder, or from an address, whose options stay at the end."""
    start, mark, options = base.partition("?") if is_address(base) else (base, "", "")
    return f"{start.rstrip('/')}/{os.fsdecode(path)}{mark}{options}"


def file_facts(base: str, path: bytes) -> tuple[int, int]:
    """Size in bytes and time of change in nanoseconds; `MISSING_SIZE` and 0 where there is no such file.

    Raises:
        DataError: The storage does not say, now and some seconds later.
    """
    place = _located(base, path)
    if not isinstance(place, bytes):
        system, inside = place
        facts = patiently(lambda: system.get_file_info(inside), printable(path))
        return (facts.size, facts.mtime_ns or 0) if facts.type == fs.FileType.File else (MISSING_SIZE, 0)
    try:
        found = patiently(lambda: os.stat(place), printable(place))
    except (FileNotFoundError, NotADirectoryError):
        return MISSING_SIZE, 0
    except OSError as error:
        raise unreadable(printable(place), error) from error
    return (found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else (MISSING_SIZE, 0)


def _located(base: str, path: bytes) -> tuple[fs.FileSystem, str] | bytes:
    """Where a path leads that is seen from a folder or an address: into a file system of pyarrow, or on this machine."""
    text = os.fsdecode(path)
    if is_address(text):
        return open_address(text)
    if is_address(base) and not text.startswith("/"):
        system, root = open_address(base)
        return system, f"{root.rstrip('/')}/{text}"
    return os.path.join(os.fsencode(base), path)


def local_path(base: str, path: bytes) -> bytes | None:
    """Where a path leads on this machine; None where pyarrow opens it."""
    place = _located(base, path)
    return place if isinstance(place, bytes) else None


def read_file(base: str, path: bytes, *, start: int = 0, size: int | None = None) -> bytes:
    """A file below a folder or an address, or a stretch of it.

    Raises:
        FileNotFoundError: It is not there.
        DataError: It cannot be read, now and some seconds later.
    """
    place = _located(base, path)
    if not isinstance(place, bytes):
        system, inside = place
        return patiently(lambda: _read_object(system, inside, start, size), printable(path))
    try:
        return patiently(lambda: _read_local(place, start, size), printable(place))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise unreadable(printable(place), error) from error


def _read_local(place: bytes, start: int, size: int | None) -> bytes:
    descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        if start:
            file.seek(start)
        return file.read() if size is None else _exactly(file.read, size)


def _exactly(read: Callable[[int], bytes], size: int) -> bytes:
    """`size` bytes, or fewer at the end of the file; one call may return fewer than asked for."""
    parts: list[bytes] = []
    while size and (part := read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _read_object(system: fs.FileSystem, path: str, start: int, size: int | None) -> bytes:
    with system.open_input_file(path) as file:
        content: bytes = file.read() if size is None else file.read_at(size, start)
    return content


def ahead(do: Callable[[T], U], items: Iterable[T], *, threads: int) -> Iterator[U]:
    """`map` with `threads` calls under way and their results in order; at most twice as many are kept ready."""
    if threads == 1:
        yield from map(do, items)
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[U]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(do, item))
                if len(waiting) >= 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def unreadable(place: str, error: OSError) -> OrchestratorError:
    """A folder or file of the source that cannot be listed."""
    return DataError(f"cannot read {place}: {error.strerror or error}", "make it readable; nothing is left out in silence")
