"""A benchmark as its Make target starts it, at toy size."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def run_benchmark(name: str, folder: Path, *options: str) -> tuple[str, dict[str, dict[str, Any]]]:
    """What it printed, and the rows that it wrote for other programs, by name."""
    paths = [str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in paths if path)}
    program = [sys.executable, str(HERE / f"bench_{name}.py"), *options, "--folder", str(folder)]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, {row["name"]: row for row in json.loads((folder / f"{name}.json").read_bytes())["rows"]}


def printed_names(printed: str) -> list[str]:
    """The first column of the table."""
    return [line.split(" |")[0].removeprefix("| ") for line in printed.splitlines() if line.startswith("| ")][1:]
