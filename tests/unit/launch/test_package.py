"""The files that travel with a submission."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest

from orchestrator.errors import JobError
from orchestrator.launch import package
from orchestrator.launch.package import find_package, write_package


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True)


def test_git_decides_what_travels(tmp_path: Path) -> None:
    """Tracked files and new ones travel; ignored and deleted ones, and git's own, do not."""
    write(tmp_path, "job.yaml", "code/model.py", "deleted.py", "new.py", "secret.env", ".hidden/kept.py")
    (tmp_path / ".gitignore").write_text("*.env\n")
    git(tmp_path, "init")
    git(tmp_path, "add", "job.yaml", "code", "deleted.py", ".hidden", ".gitignore")
    (tmp_path / "deleted.py").unlink()

    assert set(find_package(tmp_path, ()).files) == {"job.yaml", "code/model.py", "new.py", ".hidden/kept.py", ".gitignore"}


def test_without_git_all_but_hidden_files_travel(tmp_path: Path) -> None:
    """Caches and hidden files stay here."""
    write(tmp_path, "job.yaml", "code/model.py", "code/__pycache__/model.pyc", ".secret", ".venv/bin/python")

    assert set(find_package(tmp_path, ()).files) == {"job.yaml", "code/model.py"}


@pytest.mark.parametrize("with_git", [True, False])
def test_runs_and_data_never_travel(tmp_path: Path, with_git: bool) -> None:
    """What we wrote ourselves is on the shared storage already."""
    write(tmp_path, "job.yaml", "runs/a/job.yaml", "data/f/shards/x.parquet")
    if with_git:
        git(tmp_path, "init")

    assert set(find_package(tmp_path, (tmp_path / "runs", tmp_path / "data")).files) == {"job.yaml"}


def test_a_package_that_is_too_large_names_its_largest_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line with the sizes, exit code 2, and how to leave files out."""
    monkeypatch.setattr(package, "SIZE_BYTES_MAX", 20_000)
    write(tmp_path, "job.yaml")
    (tmp_path / "movie.bin").write_bytes(bytes(30_000))
    with pytest.raises(JobError, match=r"29.3 KiB would travel, at most 19.5 KiB can; the largest files: movie.bin \(29.3 KiB\)") as raised:
        find_package(tmp_path, ())

    assert raised.value.exit_code == 2
    assert "--package" in raised.value.next_step


def test_the_ten_largest_come_first(tmp_path: Path) -> None:
    """Largest first; equal sizes by name."""
    for number in range(12):
        (tmp_path / f"{number:02}").write_bytes(bytes(100 * (number // 2)))

    assert [name for name, _ in find_package(tmp_path, ()).largest] == ["10", "11", "08", "09", "06", "07", "04", "05", "02", "03"]


def test_the_same_files_make_the_same_archive(tmp_path: Path) -> None:
    """Whatever their times; contents and execute bits arrive."""
    write(tmp_path / "code", "job.yaml", "run.sh")
    (tmp_path / "code" / "run.sh").chmod(0o755)
    write_package(find_package(tmp_path / "code", ()), {"extra": b"1"}, tmp_path / "first.zip")
    (tmp_path / "code" / "job.yaml").touch()
    write_package(find_package(tmp_path / "code", ()), {"extra": b"1"}, tmp_path / "second.zip")
    with zipfile.ZipFile(tmp_path / "first.zip") as archive:
        modes = {entry.filename: entry.external_attr >> 16 & 0o777 for entry in archive.infolist()}

    assert (tmp_path / "first.zip").read_bytes() == (tmp_path / "second.zip").read_bytes()
    assert modes == {"job.yaml": 0o644, "run.sh": 0o755, "extra": 0o644}
