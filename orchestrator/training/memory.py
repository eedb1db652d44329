"""Memory of this machine: what is free, and whether the kernel had to end somebody for want of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from orchestrator.units import KIBI

PROC, CONTROL_GROUPS = Path("/proc"), Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class _Names:
    """Files of a control group."""

    limit: str
    used: str
    cached: str
    """What of `memory.stat` can be had back: files that were read and are not in use."""


VERSION_1 = _Names("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
VERSION_2 = _Names("memory.max", "memory.current", "inactive_file")


def free_bytes() -> int:
    """Memory that this process and its neighbours can still take: of the machine, and of every control group that it is in."""
    lines = dict(line.split(":", maxsplit=1) for line in (PROC / "meminfo").read_text().splitlines())
    of_machine = int(lines["MemAvailable"].split()[0]) * KIBI
    return min([of_machine, *(left for folder, names in _control_groups() for left in _left(folder, names))])


def _left(folder: Path, names: _Names) -> Iterator[int]:
    """What a control group still grants; nothing where it has no limit, or does not say."""
    with suppress(OSError, ValueError, KeyError):  # not there, `max` for none, or a kernel that leaves out files
        limit, used = (int((folder / name).read_text()) for name in (names.limit, names.used))
        pages = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        yield max(0, limit - used + int(pages[names.cached]))


def _control_groups() -> Iterator[tuple[Path, _Names]]:
    """The groups of this process and those around them; in a container only the outermost may be found, which is the container's own."""
    said = PROC / "self/cgroup"
    for line in said.read_text().splitlines() if said.is_file() else ():
        _, controllers, path = line.split(":", maxsplit=2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top = CONTROL_GROUPS / "memory" if controllers else CONTROL_GROUPS
        inside = Path(path.lstrip("/"))
        yield from ((top / part, VERSION_1 if controllers else VERSION_2) for part in (inside, *inside.parents))


def ended_for_memory() -> int:
    """How many processes the kernel of this machine has ended for want of memory since it was started; 0 where it does not count them."""
    with suppress(OSError, ValueError):
        counts = dict(line.split() for line in (PROC / "vmstat").read_text().splitlines())
        return int(counts.get("oom_kill", 0))
    return 0
