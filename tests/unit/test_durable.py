"""Files are whole or not there, whoever else writes beside them."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from orchestrator.durable import ABANDONED_S, create_once, read_json, replacing, sweep_temporaries, write_atomically
from orchestrator.errors import StorageError


def test_writers_of_one_file_do_not_share_a_temporary_file(tmp_path: Path) -> None:
    """Two writers with the same process id, as in two containers, each write a file of their own; the last one stays, whole."""
    path = tmp_path / "file"
    with replacing(path) as first:
        with replacing(path) as second:
            first.write(b"first, and longer")
            second.write(b"second")
        assert path.read_bytes() == b"second"
    assert path.read_bytes() == b"first, and longer"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    """An exception of any kind inside the write: the old file is untouched, and nothing lies beside it."""
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with pytest.raises(ZeroDivisionError), replacing(path) as file:
        file.write(b"new" * (1 // 0))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_created_once(tmp_path: Path) -> None:
    """Of many writers with contents of their own exactly one succeeds; the same content again is as good."""
    path = tmp_path / "file"
    contents = [b"%d" % number for number in range(8)]
    with ThreadPoolExecutor(8) as threads:
        created = list(threads.map(lambda content: create_once(path, content), contents))
    assert created.count(True) == 1
    assert path.read_bytes() == contents[created.index(True)]
    assert create_once(path, path.read_bytes())
    assert list(tmp_path.iterdir()) == [path]


def test_only_what_nobody_writes_any_more_is_swept(tmp_path: Path) -> None:
    """Gone: files of dead writers of this host, and of any after a day. Kept: all others; a process id says nothing of another host."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    abandoned = [
        tmp_path / f".dead.1a.{dead.pid}@{platform.node()}.tmp",
        tmp_path / f".of-an-earlier-container.1a.{os.getpid()}@{platform.node()}.tmp",
        tmp_path / ".long-ago.1a.1@elsewhere.tmp",
        tmp_path / ".of-an-earlier-version.123.tmp",
    ]
    kept = [
        tmp_path / f".living.1a.{os.getppid()}@{platform.node()}.tmp",
        tmp_path / f".same-number.1a.{dead.pid}@elsewhere.example.org.tmp",
        tmp_path / "no-temporary-file",
    ]
    for path in [*abandoned, *kept]:
        path.write_bytes(b"half")
    long_ago = time.time() - ABANDONED_S - 60
    for path in abandoned[2:]:
        os.utime(path, (long_ago, long_ago))
    sweep_temporaries(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(kept)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A folder in the place of a file is an error of storage, as a missing and a torn file are."""
    (tmp_path / "torn").write_text("{")
    for name, words in {".": "cannot read", "missing": "is missing", "torn": "is damaged"}.items():
        with pytest.raises(StorageError, match=words):
            read_json(tmp_path / name)
