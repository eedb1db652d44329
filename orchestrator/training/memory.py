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
    left = (_left(folder, names) for folder, names in _control_groups() if (folder / names.limit).is_file())
    return min([of_machine, *(found for found in left if found is not None)])


def _left(folder: Path, names: _Names) -> int | None:
    """What a control group still grants; nothing is said where it has no limit."""
    limit = (folder / names.limit).read_text().strip()
    if not limit.isdigit():
        return None
    pages = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    return max(0, int(limit) - int((folder / names.used).read_text()) + int(pages[names.cached]))


def _control_groups() -> Iterator[tuple[Path, _Names]]:
    """The groups of this process and those around them; in a container only the outermost may be found, which is the container's own."""
    for line in (PROC / "self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", maxsplit=2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top = CONTROL_GROUPS / "memory" if controllers else CONTROL_GROUPS
        inside = Path(path.lstrip("/"))
        yield from ((top / part, VERSION_1 if controllers else VERSION_2) for part in (inside, *inside.parents))


def ended_for_memory() -> int:
    """How many processes the kernel of this machine has ended for want of memory since it was started; 0 where it does not count them."""
    with suppress(OSError):
        counts = dict(line.split() for line in (PROC / "vmstat").read_text().splitlines())
        return int(counts.get("oom_kill", 0))
    return 0
