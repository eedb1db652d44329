"""The repository as a whole: nothing half-done, nothing that points nowhere, nothing that does not belong."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b")
TOP_LEVEL = {
    "pyproject.toml",
    "README.md",
    "orchestrator",
    "jobs",
    "cluster",
    "tests",
    "Makefile",
    "constraints.txt",
    "LICENSE",
    "CHANGELOG.md",
    ".ci",
    ".gitignore",
    ".gitattributes",
    ".editorconfig",
    ".dockerignore",
    ".github",
}


def text_files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.suffix in {".py", ".j2", ".js", ".css"}]


def test_nothing_is_left_for_later() -> None:
    """The package holds no marks of unfinished work."""
    marked = [path.name for path in text_files(REPOSITORY / "orchestrator") if UNFINISHED.search(path.read_text(encoding="utf-8"))]
    assert marked == []


def named_in_readme() -> set[str]:
    """Relative links, and files and folders of the repository that are named in backticks."""
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    links = {target.split("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target}
    quoted = {name for name in re.findall(r"`([\w./-]+)`", text) if name.split("/")[0] in TOP_LEVEL and "/" in name}
    return (links | quoted) - {""}


def test_files_named_in_the_readme_exist() -> None:
    """Every link and every path of the repository in README leads somewhere."""
    assert [name for name in sorted(named_in_readme()) if not (REPOSITORY / name).exists()] == []


def test_rooms_named_in_the_readme_are_the_rooms() -> None:
    """The map of the package in README lists its folders, all of them."""
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    block = text.partition("```\norchestrator/\n")[2].partition("```")[0]
    named = set(re.findall(r"(?:^|  )(\w+)/ ", block))
    assert named == {path.parent.name for path in (REPOSITORY / "orchestrator").glob("*/*.py")}


def test_verbs_named_in_the_readme_are_the_verbs() -> None:
    """The table of verbs in README lists the commands of the program, all of them."""
    from typer.main import get_command

    from orchestrator.cli.main import app

    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?) \|", text.partition("## The verbs")[2].partition("\n## ")[0], re.MULTILINE)
    named = {call.split()[0] for row in rows for call in re.findall(r"`([^`]+)`", row)}
    assert named == set(get_command(app).commands)  # type: ignore[attr-defined]


def test_only_what_belongs_is_tracked() -> None:
    """The top level of the repository holds the agreed files and folders and no others."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"not a git checkout: {done.stderr.strip()}")
    assert {name.split("/")[0] for name in done.stdout.split("\0") if name} - TOP_LEVEL == set()
