"""The files that travel with a submitted job: what git would commit, or all but hidden files where there is no git."""

from __future__ import annotations

import os
import subprocess
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import JobError, Problem
from orchestrator.units import format_bytes, format_count

SIZE_BYTES_MAX = 100 * 2**20
"""What Ray's head node takes in one request."""
FIXED_DATE = (1980, 1, 1, 0, 0, 0)
"""The same files make the same archive, which Ray then does not send again."""
LARGEST = 10


@dataclass(frozen=True)
class Package:
    """Files of a folder, by name."""

    folder: Path
    files: dict[str, int]
    """Path below the folder, with `/`: size in bytes."""
    by_git: bool

    @property
    def size(self) -> int:
        return sum(self.files.values())

    @property
    def largest(self) -> tuple[tuple[str, int], ...]:
        """The ten largest files, the largest first."""
        return tuple(sorted(self.files.items(), key=lambda file: (-file[1], file[0]))[:LARGEST])


def find_package(folder: Path, left_out: tuple[Path, ...]) -> Package:
    """What would travel of a folder.

    Args:
        folder: Usually the working directory.
        left_out: Folders of our own that never travel: runs and prepared data.

    Raises:
        JobError: It is no folder, or holds more than a cluster takes.
    """
    if not folder.is_dir():
        raise JobError((Problem(str(folder), "no such folder to send"),), "--package takes the folder with the code of the job")
    listed = _git_files(folder)
    names = _plain_files(folder) if listed is None else listed
    kept = {name: (folder / name).stat().st_size for name in sorted(names) if _travels(folder / name, left_out)}
    package = Package(folder, kept, by_git=listed is not None)
    if package.size > SIZE_BYTES_MAX:
        largest = ", ".join(f"{name} ({format_bytes(size)})" for name, size in package.largest[:3])
        what = f"{format_bytes(package.size)} would travel, at most {format_bytes(SIZE_BYTES_MAX)} can; the largest files: {largest}"
        next_step = "name them in .gitignore" if package.by_git else "run git init there and name them in .gitignore"
        raise JobError((Problem(str(folder), what),), f"{next_step}, or choose the folder with the code by --package FOLDER")
    return package


def write_package(package: Package, extra: dict[str, bytes], target: Path) -> None:
    """A zip file of the package and of `extra` files, the same bytes for the same content.

    Raises:
        JobError: A file has gone, or cannot be read.
    """
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in package.files:
            try:
                content = (package.folder / name).read_bytes()
                mode = (package.folder / name).stat().st_mode & 0o777
            except OSError as error:
                raise JobError((Problem(str(package.folder / name), f"cannot be sent: {error.strerror}"),)) from error
            _add(archive, name, content, mode)
        for name, content in extra.items():
            _add(archive, name, content, 0o644)


def _add(archive: zipfile.ZipFile, name: str, content: bytes, mode: int) -> None:
    entry = zipfile.ZipInfo(name, FIXED_DATE)
    entry.external_attr = mode << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, content)


def _git_files(folder: Path) -> list[str] | None:
    """What git tracks below the folder, and what it would add; None where there is no git."""
    command = ["git", "-C", str(folder), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(command, capture_output=True, check=True)  # noqa: S603 -- no shell reads it
    except (OSError, subprocess.CalledProcessError):
        return None
    return sorted({os.fsdecode(name) for name in done.stdout.split(b"\0") if name})


def _plain_files(folder: Path) -> Iterator[str]:
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "__pycache__"))]
        for name in files:
            if not name.startswith("."):
                yield (Path(place) / name).relative_to(folder).as_posix()


def _travels(path: Path, left_out: tuple[Path, ...]) -> bool:
    """Links travel as what they point to; what git lists may have been deleted, or be another repository."""
    return path.is_file() and not any(path.is_relative_to(folder) for folder in left_out)


def describe_package(package: Package) -> str:
    """One line."""
    origin = "what git tracks or would add" if package.by_git else "all but hidden files; no git here"
    return f"{format_count(len(package.files), 'file')}, {format_bytes(package.size)} from {package.folder} ({origin})"
