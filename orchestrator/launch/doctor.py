"""What is missing on this machine: one check per line, each with a fix."""

from __future__ import annotations

import importlib
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import ModuleType

from orchestrator.durable import sync_folder
from orchestrator.units import format_bytes

GIB = 2**30
PYTHON_MIN = (3, 11)
RAY_VERSION = "2.60.0"
SHARED_MEMORY = "/dev/shm"  # noqa: S108 -- where Ray keeps its objects
SHARED_MEMORY_WARN_BYTES = 2 * GIB
DISK_WARN_BYTES = 5 * GIB
DISK_FAIL_BYTES = GIB
MEMORY_WARN_BYTES = 4 * GIB
OPEN_FILES_WARN = 4096
SOCKET_PATH_MAX = 107
"""Bytes of a Unix socket's path on Linux (`sun_path` without its end)."""
SOCKET_UNDER_TEMPORARY = "ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
"""The longest path that Ray makes below the folder for temporary files."""
INSTALL = "pip install -c constraints.txt -e ."
NVIDIA_SMI_LIMIT_S = 30
CODECS = ("JPEG", "PNG", "WEBP")


class Status(StrEnum):
    """How a check came out; only `fail` keeps a run from working."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Check:
    """One line of the answer."""

    name: str
    status: Status
    found: str
    fix: str = ""
    """What to do; empty when nothing has to be done."""


def examine(root: Path) -> tuple[Check, ...]:
    """Look at everything a run needs; nothing is left behind, and no fault is raised.

    Args:
        root: Folder that holds, or will hold, runs/ and data/.
    """
    return (
        _python(),
        _gpu_driver(),
        _library("torch", _torch),
        _library("OpenCV", _opencv),
        _library("Ray", _ray),
        _library("pyarrow", _pyarrow),
        _cpus(),
        _memory(),
        _shared_memory(),
        _open_files(),
        _temporary_folder(),
        _disk(root),
        _writable(root),
    )


def _python() -> Check:
    if sys.version_info >= PYTHON_MIN:
        return Check("Python", Status.OK, platform.python_version())
    return Check("Python", Status.FAIL, platform.python_version(), "install Python 3.11 or newer")


def _library(name: str, look: Callable[[], Check]) -> Check:
    """A library that does not import is a line of the answer, like any other fault."""
    try:
        return look()
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        lines = str(error).strip().splitlines() or ["no message"]
        return Check(name, Status.FAIL, f"{type(error).__name__}: {lines[0]}", INSTALL)


def _gpu_names() -> tuple[str, ...] | str:
    """The GPUs of this machine, or why the driver does not answer."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    try:
        done = subprocess.run(  # noqa: S603 -- a constant command
            [program, "--query-gpu=name,driver_version", "--format=csv,noheader"],
            capture_output=True, text=True, check=False, timeout=NVIDIA_SMI_LIMIT_S,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    lines = tuple(line.strip() for line in done.stdout.splitlines() if line.strip())
    return lines if done.returncode == 0 else (done.stderr.strip() or " ".join(lines) or f"nvidia-smi failed with {done.returncode}")


def _gpu_driver() -> Check:
    names = _gpu_names()
    if isinstance(names, str):
        return Check("NVIDIA driver", Status.WARN, names, "mend the driver, or train on the CPU with train.device=cpu")
    return Check("NVIDIA driver", Status.OK, "; ".join(names) or "no GPU: training runs on the CPU")


def _torch() -> Check:
    torch: ModuleType = importlib.import_module("torch")
    version, names = torch.__version__, _gpu_names()
    if torch.cuda.is_available():
        return Check("torch", Status.OK, f"{version}, CUDA {torch.version.cuda}, {torch.cuda.device_count()} GPU")
    if names and not isinstance(names, str):
        what = "built without CUDA" if torch.version.cuda is None else f"built for CUDA {torch.version.cuda}, and finds no GPU"
        return Check(
            "torch",
            Status.FAIL,
            f"{version}: {what}",
            "install a torch whose CUDA the driver supports: pip install --force-reinstall torch",
        )
    return Check("torch", Status.OK, f"{version}, CPU")


def _opencv() -> Check:
    cv2: ModuleType = importlib.import_module("cv2")
    missing = missing_codecs(cv2.getBuildInformation())
    if missing:
        return Check(
            "OpenCV", Status.FAIL, f"{cv2.__version__} without {', '.join(missing)}", "pip install --force-reinstall opencv-python-headless"
        )
    return Check("OpenCV", Status.OK, f"{cv2.__version__} with {', '.join(CODECS)}")


def missing_codecs(build_information: str) -> tuple[str, ...]:
    """The codecs that OpenCV's description of itself does not list, or lists as NO."""
    lines = re.findall(r"^\s*([A-Z]+):\s*(\S+)", build_information, re.MULTILINE)
    present = {name for name, value in lines if value != "NO"}
    return tuple(codec for codec in CODECS if codec not in present)


def _ray() -> Check:
    version = str(importlib.import_module("ray").__version__)
    if version != RAY_VERSION:
        return Check(
            "Ray",
            Status.FAIL,
            f"{version}; this program is written for {RAY_VERSION}",
            f"pip install 'ray[data,train,tune,default]=={RAY_VERSION}'",
        )
    return Check("Ray", Status.OK, version)


def _pyarrow() -> Check:
    return Check("pyarrow", Status.OK, str(importlib.import_module("pyarrow").__version__))


def _cpus() -> Check:
    return Check("CPUs", Status.OK, f"{len(os.sched_getaffinity(0))} usable")


def _memory() -> Check:
    size_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = Path("/sys/fs/cgroup/memory.max")
    said = limit.read_text().strip() if limit.is_file() else "max"
    usable_bytes = min(size_bytes, int(said)) if said.isdigit() else size_bytes
    if usable_bytes < MEMORY_WARN_BYTES:
        return Check("memory", Status.WARN, format_bytes(usable_bytes), "use one worker and a small train.batch")
    return Check("memory", Status.OK, format_bytes(usable_bytes))


def _shared_memory() -> Check:
    try:
        size_bytes = shutil.disk_usage(SHARED_MEMORY).total
    except OSError as error:
        return Check(SHARED_MEMORY, Status.WARN, str(error), "mount a tmpfs of 2 GiB there; Ray otherwise uses the disk, which is slow")
    if size_bytes < SHARED_MEMORY_WARN_BYTES:
        return Check(
            SHARED_MEMORY,
            Status.WARN,
            format_bytes(size_bytes),
            "give it 2 GiB (docker run --shm-size=2g); Ray otherwise uses the disk, which is slow",
        )
    return Check(SHARED_MEMORY, Status.OK, format_bytes(size_bytes))


def _open_files() -> Check:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = f"at most {soft:,} (hard limit {hard:,})"
    if 0 <= soft < OPEN_FILES_WARN:
        return Check("open files", Status.WARN, found, f"ulimit -n {OPEN_FILES_WARN}")
    return Check("open files", Status.OK, found)


def _temporary_folder() -> Check:
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 -- the order in which Ray looks
    length = len(os.fsencode(Path(folder) / SOCKET_UNDER_TEMPORARY))
    if length > SOCKET_PATH_MAX:
        found = f"{folder} makes socket paths of {length} bytes; {SOCKET_PATH_MAX} is the limit"
        return Check("temporary folder", Status.FAIL, found, "export RAY_TMPDIR=/tmp")
    return Check("temporary folder", Status.OK, folder)


def _disk(root: Path) -> Check:
    existing = next(folder for folder in (root.absolute(), *root.absolute().parents) if folder.exists())
    try:
        free_bytes = shutil.disk_usage(existing).free
    except OSError as error:
        return Check("disk", Status.FAIL, f"{existing}: {error.strerror}", "choose another folder with --root")
    found = f"{format_bytes(free_bytes)} free at {existing}"
    if free_bytes < DISK_FAIL_BYTES:
        return Check("disk", Status.FAIL, found, "free at least 1 GiB, or choose another folder with --root")
    if free_bytes < DISK_WARN_BYTES:
        return Check(
            "disk", Status.WARN, found, "prepared images and checkpoints may need more: free 5 GiB, or choose another folder with --root"
        )
    return Check("disk", Status.OK, found)


def _writable(root: Path) -> Check:
    """Does what a run does: makes a folder, writes, syncs, links and renames."""
    folder = root.absolute() / f".doctor-{uuid.uuid4().hex}"
    made = [parent for parent in root.absolute().parents if not parent.exists()]
    made = ([] if root.absolute().exists() else [root.absolute()]) + made
    try:
        folder.mkdir(parents=True)
        _exercise(folder)
    except OSError as error:
        return Check(
            "root folder", Status.FAIL, f"{root.absolute()} cannot be used: {error.strerror or error}", "choose another folder with --root"
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for parent in made:
            if parent.is_dir():
                parent.rmdir()
    return Check("root folder", Status.OK, f"{root.absolute()} takes files, links and renames")


def _exercise(folder: Path) -> None:
    written, linked, renamed = folder / "written", folder / "linked", folder / "renamed"
    with written.open("wb") as file:
        file.write(b"\0" * 65536)
        file.flush()
        os.fsync(file.fileno())
    linked.hardlink_to(written)
    written.replace(renamed)
    sync_folder(folder)
