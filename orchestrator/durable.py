"""Files that are whole or not there, and stay there when the machine loses power."""

from __future__ import annotations

import json
import os
import platform
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from orchestrator.errors import StorageError

ABANDONED_S = 24 * 3600.0
"""After this time nobody is still writing a temporary file, whichever host its writer was on."""
WRITER = re.compile(r"\.(?P<pid>\d+)@(?P<host>[^/]*)\.tmp$")


def write_atomically(path: Path, content: bytes | memoryview) -> None:
    """Write a file that is either whole or not there, and durable when this returns.

    Raises:
        StorageError: The storage is full or does not take the file.
    """
    with replacing(path) as file:
        file.write(content)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `path`, whole and durable, when the context ends well; else `path` stays as it was.

    Raises:
        StorageError: The storage is full or does not take the file.
    """
    with _temporary(path) as temporary:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)


def create_once(path: Path, content: bytes | memoryview) -> bool:
    """Write a file unless it is there; of several writers at the same time one creates it, and none ever changes it.

    Returns:
        Whether the file has this content now, whoever wrote it.

    Raises:
        StorageError: The storage is full or does not take the file.
    """
    with _temporary(path) as temporary:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(temporary, path)
        discard(temporary)
        sync_folder(path.parent)
        return path.read_bytes() == content


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """The name of a file that is to become `path`; it is gone when the context fails.

    No two writes share a name: hosts share storage, and containers share host names and process ids.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.{os.getpid()}@{platform.node()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
    except BaseException as error:
        discard(temporary)
        if isinstance(error, OSError):
            raise storage_error(error, path) from error
        raise


def discard(path: Path) -> None:
    """Remove what nobody reads, where that can be done: what it was written for is decided already."""
    with suppress(OSError):
        path.unlink()


def sweep_temporaries(folder: Path) -> None:
    """Remove what killed writers left in a folder: writers of this host at once, of other hosts when they must have ended."""
    for path in folder.glob(".*.tmp"):
        if _is_abandoned(path):
            discard(path)


def _is_abandoned(temporary: Path) -> bool:
    writer = WRITER.search(temporary.name)
    if writer and writer["host"] == platform.node() and not _is_writing(int(writer["pid"])):
        return True
    try:
        return time.time() - temporary.stat().st_mtime > ABANDONED_S
    except FileNotFoundError:
        return False


def _is_writing(pid: int) -> bool:
    """Whether a process of this host lives; this one is past its writing."""
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def sync_name(path: Path) -> None:
    """Make the name of a file or folder durable that somebody else may have made, and been killed.

    Raises:
        StorageError: The storage does not take it.
    """
    try:
        sync_folder(path.parent)
    except OSError as error:
        raise storage_error(error, path) from error


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def storage_error(error: OSError, path: Path, doing: str = "write") -> StorageError:
    """Name what the operating system said about `path` in one line, with the next step."""
    reason = error.strerror or str(error)
    return StorageError(
        f"cannot {doing} {path}: {reason}", "free space or mend the folder, then run the same command again; finished work is kept"
    )


def write_json(path: Path, value: Any) -> None:
    """`write_atomically` for plain data; raises `ValueError` for NaN and infinities."""
    write_atomically(path, (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Raises:
    StorageError: The file is missing, cannot be read, or is not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise StorageError(f"{path} is missing", "run the job again; finished stages are kept") from error
    except OSError as error:
        raise storage_error(error, path, "read") from error
    except ValueError as error:
        raise StorageError(f"{path} is damaged: {error}", "delete it and run the job again; finished stages are kept") from error
