"""What is free on a machine, and what its kernel says of processes that it ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.training import memory
from orchestrator.training.memory import VERSION_1, VERSION_2, ended_for_memory, free_bytes

MACHINE = 8000 * 1024
GROUPS = {
    "version 2": ("0::/slurm/job/step\n", ("slurm/job/step", "slurm/job", "."), VERSION_2),
    "version 2, seen from inside": ("0::/\n", (".",), VERSION_2),
    "version 1": ("7:cpu:/\n4:hugetlb,memory:/docker/abc\n0::/\n", ("memory/docker/abc", "memory/docker", "memory"), VERSION_1),
    "version 1, seen from inside": ("4:memory:/docker/abc\n", ("memory",), VERSION_1),
}
"""What /proc says, and the folders that are there, innermost first."""


@pytest.fixture(params=GROUPS)
def groups(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Control groups without a limit, on a machine with memory to spare."""
    said, names, files = GROUPS[request.param]
    (tmp_path / "self").mkdir()
    (tmp_path / "self/cgroup").write_text(said)
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 8000 kB\n")
    monkeypatch.setattr(memory, "PROC", tmp_path)
    monkeypatch.setattr(memory, "CONTROL_GROUPS", tmp_path / "groups")
    folders = [tmp_path / "groups" / name for name in names]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / files.limit).write_text(f"{'max' if files is VERSION_2 else 2**63 - 4096}\n")
        (folder / files.used).write_text("3500000\n")
        (folder / "memory.stat").write_text("anon 1000\ninactive_file 500000\ntotal_inactive_file 500000\n")
    return folders


def test_free_memory_is_no_more_than_any_control_group_grants(groups: list[Path], tmp_path: Path) -> None:
    """The own group, those around it, and the one that a container sees as the outermost; files that are only cached count as free."""
    assert free_bytes() == MACHINE
    limit = next(folder / name for folder in groups for name in ("memory.max", "memory.limit_in_bytes") if (folder / name).is_file())
    for folder in groups:
        place = folder / limit.name
        before = place.read_text()
        place.write_text("4000000\n")
        assert free_bytes() == 1_000_000
        place.write_text("2000000\n")
        assert free_bytes() == 0
        place.write_text(before)
    assert free_bytes() == MACHINE


@pytest.mark.parametrize("lost", ["memory.stat", "self/cgroup"])
def test_a_kernel_that_leaves_out_files_grants_what_the_machine_has(groups: list[Path], tmp_path: Path, lost: str) -> None:
    """As that of a sandbox: no error where another one may have to be told."""
    for folder in groups:
        for name in ("memory.max", "memory.limit_in_bytes"):
            if (folder / name).is_file():
                (folder / name).write_text("4000000\n")
    for place in [folder / lost for folder in groups] if lost == "memory.stat" else [tmp_path / lost]:
        place.unlink()
    assert free_bytes() == MACHINE


def test_this_machine_has_memory() -> None:
    """Whatever its files are called."""
    assert 2**20 < free_bytes() < 2**50
    assert ended_for_memory() >= 0


def test_a_kernel_that_does_not_count_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No such file, no such line: 0; else what it counts."""
    monkeypatch.setattr(memory, "PROC", tmp_path)
    assert ended_for_memory() == 0
    (tmp_path / "vmstat").write_text("pgfault 12\n")
    assert ended_for_memory() == 0
    (tmp_path / "vmstat").write_text("pgfault 12\noom_kill 3\n")
    assert ended_for_memory() == 3
