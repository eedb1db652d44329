"""Files that are whole or not there, and stay there when the machine loses power."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from orchestrator.errors import StorageError


def write_atomically(path: Path, content: bytes | memoryview) -> None:
    """Write a file that is either whole or not there, and durable when this returns.

    Raises:
        StorageError: The storage is full or does not take the file.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        discard(temporary)
        raise storage_error(error, path) from error


def discard(temporary: Path) -> None:
    """Remove what a failed write left, where that can be done: the failure that led here is the one to tell."""
    with suppress(OSError):
        temporary.unlink()


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def storage_error(error: OSError, path: Path) -> StorageError:
    """Name what the operating system said about `path` in one line, with the next step."""
    reason = error.strerror or str(error)
    return StorageError(
        f"cannot write {path}: {reason}", "free space or mend the folder, then run the same command again; finished work is kept"
    )


def write_json(path: Path, value: Any) -> None:
    """`write_atomically` for plain data; raises `ValueError` for NaN and infinities."""
    write_atomically(path, (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Raises:
    StorageError: The file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise StorageError(f"{path} is missing", "run the job again; finished stages are kept") from error
    except ValueError as error:
        raise StorageError(f"{path} is damaged: {error}", "delete it and run the job again; finished stages are kept") from error
