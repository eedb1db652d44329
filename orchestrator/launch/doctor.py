"""What is missing on this machine: one check per line, each with a fix."""

from __future__ import annotations

import fcntl
import importlib
import os
import platform
import re
import resource
import shutil
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from types import ModuleType

from orchestrator.durable import sync_folder
from orchestrator.units import format_bytes, format_count

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
LOOPBACK_LIMIT_S = 5
CODECS = ("JPEG", "PNG", "WEBP")
CONTROL_GROUPS = Path("/sys/fs/cgroup")


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


@dataclass(frozen=True)
class Driver:
    """What nvidia-smi says."""

    gpus: tuple[str, ...] = ()
    """Name and driver version of each GPU."""
    fault: str = ""
    """Why it did not answer; empty when it did, and when it is not installed."""


def examine(root: Path) -> tuple[Check, ...]:
    """Look at everything a run needs; nothing is left behind, and no fault is raised.

    Args:
        root: Folder that holds, or will hold, runs/ and data/.
    """
    driver = _ask_driver()
    return (
        _python(),
        _gpu_driver(driver),
        _library("torch", "torch", partial(_torch, driver=driver)),
        _library("OpenCV", "cv2", _opencv),
        _library("Ray", "ray", _ray),
        _library("pyarrow", "pyarrow", _pyarrow),
        _cpus(),
        _memory(),
        _shared_memory(),
        _open_files(),
        _loopback(),
        _temporary_folder(),
        _ray_processes(),
        _disk(root.absolute()),
        _writable(root.absolute()),
    )


def _python() -> Check:
    if sys.version_info >= PYTHON_MIN:
        return Check("Python", Status.OK, platform.python_version())
    return Check("Python", Status.FAIL, platform.python_version(), "install Python 3.11 or newer")


def _library(name: str, module: str, look: Callable[[ModuleType], Check]) -> Check:
    """The one place of this room that loads torch, OpenCV and Ray: by name, because one that does not load is a line like any other."""
    try:
        return look(importlib.import_module(module))
    except (ImportError, OSError, RuntimeError, AttributeError, TypeError, ValueError) as error:
        lines = str(error).strip().splitlines() or ["no message"]
        return Check(name, Status.FAIL, f"{type(error).__name__}: {lines[0]}", INSTALL)


def _ask_driver() -> Driver:
    program = shutil.which("nvidia-smi")
    if program is None:
        return Driver()
    try:
        done = subprocess.run(  # noqa: S603 -- a constant command
            [program, "--query-gpu=name,driver_version", "--format=csv,noheader"],
            capture_output=True, text=True, errors="replace", check=False, timeout=NVIDIA_SMI_LIMIT_S,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return Driver(fault=str(error))
    lines = tuple(line.strip() for line in done.stdout.splitlines() if line.strip())
    if done.returncode == 0:
        return Driver(gpus=lines)
    return Driver(fault=done.stderr.strip() or " ".join(lines) or f"nvidia-smi failed with {done.returncode}")


def _gpu_driver(driver: Driver) -> Check:
    if driver.fault:
        return Check("NVIDIA driver", Status.WARN, driver.fault, "mend the driver, or train on the CPU: export CUDA_VISIBLE_DEVICES=")
    return Check("NVIDIA driver", Status.OK, "; ".join(driver.gpus) or "no GPU: training runs on the CPU")


def _torch(torch: ModuleType, *, driver: Driver) -> Check:
    version = str(torch.__version__)
    if torch.cuda.is_available():
        return Check("torch", Status.OK, f"{version}, CUDA {torch.version.cuda}, {torch.cuda.device_count()} GPU")
    if not driver.gpus:
        return Check("torch", Status.OK, f"{version}, CPU")
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return Check("torch", Status.OK, f"{version}, CPU: CUDA_VISIBLE_DEVICES hides the GPUs")
    what = "built without CUDA" if torch.version.cuda is None else f"built for CUDA {torch.version.cuda}, and finds no GPU"
    return Check(
        "torch",
        Status.FAIL,
        f"{version}: {what}",
        "install a torch whose CUDA the driver supports: pip install --force-reinstall torch; or train on the CPU: "
        "export CUDA_VISIBLE_DEVICES=",
    )


def _opencv(cv2: ModuleType) -> Check:
    missing = missing_codecs(cv2.getBuildInformation())
    if missing:
        return Check(
            "OpenCV", Status.FAIL, f"{cv2.__version__} without {', '.join(missing)}", "pip install --force-reinstall opencv-python-headless"
        )
    return Check("OpenCV", Status.OK, f"{cv2.__version__} with {', '.join(CODECS)}; {format_count(cv2.getNumThreads(), 'thread')}")


def missing_codecs(build_information: str) -> tuple[str, ...]:
    """The codecs that OpenCV's description of itself does not list, or lists as NO."""
    lines = re.findall(r"^\s*([A-Z]+):\s*(\S+)", build_information, re.MULTILINE)
    present = {name for name, value in lines if value != "NO"}
    return tuple(codec for codec in CODECS if codec not in present)


def _ray(ray: ModuleType) -> Check:
    if ray.__version__ != RAY_VERSION:
        return Check(
            "Ray",
            Status.FAIL,
            f"{ray.__version__}; this program is written for {RAY_VERSION}",
            f"pip install 'ray[data,train,tune,default]=={RAY_VERSION}'",
        )
    return Check("Ray", Status.OK, RAY_VERSION)


def _pyarrow(pyarrow: ModuleType) -> Check:
    return Check("pyarrow", Status.OK, str(pyarrow.__version__))


def _control_group(*names: str) -> tuple[str, ...]:
    """The words of the first file that exists, for version 2 and version 1 of control groups; none when there is no limit to read."""
    for name in names:
        with suppress(FileNotFoundError, NotADirectoryError):
            return tuple((CONTROL_GROUPS / name).read_text().split())
    return ()


def _cpus() -> Check:
    usable, present = len(os.sched_getaffinity(0)), os.cpu_count()
    quota = cpu_quota(_control_group("cpu.max") or _control_group("cpu/cpu.cfs_quota_us") + _control_group("cpu/cpu.cfs_period_us"))
    found = f"{usable} usable of {present}"
    if quota is not None and quota < usable:
        return Check("CPUs", Status.WARN, f"{found}, with a quota of {quota:g}", "give the container more CPUs, or set train.workers=1")
    return Check("CPUs", Status.OK, found)


def cpu_quota(words: tuple[str, ...]) -> float | None:
    """CPUs that a control group grants, from its quota and period in microseconds; None when it sets no limit."""
    numbers = [int(word) for word in words if word.isdigit()]
    return numbers[0] / numbers[1] if len(numbers) == 2 else None  # noqa: PLR2004 -- quota and period


def _memory() -> Check:
    size_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = [int(word) for word in _control_group("memory.max", "memory/memory.limit_in_bytes") if word.isdigit()]
    usable_bytes = min([size_bytes, *limits])
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
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return Check("open files", Status.OK, "unlimited")
    if soft < OPEN_FILES_WARN:
        return Check("open files", Status.WARN, f"at most {soft:,}", f"ulimit -n {OPEN_FILES_WARN}")
    return Check("open files", Status.OK, f"at most {soft:,}")


def _loopback() -> Check:
    """The processes of Ray and of a worker group talk to one another over ports of this machine."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port: int = server.getsockname()[1]
            socket.create_connection(("127.0.0.1", port), timeout=LOOPBACK_LIMIT_S).close()
    except OSError as error:
        found = f"no connection to 127.0.0.1: {error.strerror or error}"
        return Check("loopback", Status.FAIL, found, "bring the interface up (ip link set lo up), or allow local ports")
    return Check("loopback", Status.OK, "ports of 127.0.0.1 can be opened and reached")


def _ray_processes() -> Check:
    running = []
    for process in sorted(Path("/proc").glob("[0-9]*")):
        with suppress(OSError):  # it ended between the two looks
            if (process / "comm").read_text().strip() == "raylet":
                running.append(process.name)
    if running:
        found = f"Ray runs here already, as process {', '.join(running)}"
        return Check("Ray processes", Status.WARN, found, "nothing if it is in use; `ray stop` if a killed run has left it behind")
    return Check("Ray processes", Status.OK, "none left behind")


def _temporary_folder() -> Check:
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 -- the order in which Ray looks
    length = len(os.fsencode(Path(folder) / SOCKET_UNDER_TEMPORARY))
    if length > SOCKET_PATH_MAX:
        found = f"{folder} makes socket paths of {length} bytes; {SOCKET_PATH_MAX} is the limit"
        return Check("temporary folder", Status.FAIL, found, "export RAY_TMPDIR=/tmp")
    return Check("temporary folder", Status.OK, folder)


def _missing(root: Path) -> list[Path]:
    """`root` and those of its parents that do not exist or cannot be seen, deepest first."""
    return [folder for folder in (root, *root.parents) if not os.access(folder, os.F_OK)]


def _disk(root: Path) -> Check:
    missing = _missing(root)
    existing = missing[-1].parent if missing else root
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
    missing = _missing(root)
    folder = root / f".doctor-{uuid.uuid4().hex}"
    try:
        folder.mkdir(parents=True)
        _exercise(folder)
    except OSError as error:
        return Check("root folder", Status.FAIL, f"{root} cannot be used: {error.strerror or error}", "choose another folder with --root")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for made in missing:
            with suppress(OSError):  # it was not made, or somebody has put something into it
                made.rmdir()
    return Check("root folder", Status.OK, f"{root} takes files, links, renames and locks")


def _exercise(folder: Path) -> None:
    """What a run does with files."""
    written, linked, renamed = folder / "written", folder / "linked", folder / "renamed"
    with written.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.write(b"\0" * 65536)
        file.flush()
        os.fsync(file.fileno())
    linked.hardlink_to(written)
    written.replace(renamed)
    sync_folder(folder)
