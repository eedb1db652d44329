"""The program as its users start it: real processes, real files."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from orchestrator.testing import write_image_folder

PROGRAM = (sys.executable, "-m", "orchestrator.cli.main")

JOB = """\
name: shapes
data:
  source: {source}
  image: {{size: 16, store: png}}
  shard_rows: 32
model: {{name: resnet8}}
train: {{epochs: {epochs}, batch: 16, lr: 0.05, workers: 1, checkpoint_s: 0.5}}
"""


@dataclass(frozen=True)
class Program:
    """A started program, and the file that receives all it prints."""

    process: subprocess.Popen[bytes]
    log: Path

    def wait(self, deadline_s: float = 120) -> tuple[int, str]:
        """Its exit code and its output."""
        return self.process.wait(deadline_s), self.log.read_text()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Shell:
    """Runs the program in a folder of its own."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.started: list[Program] = []
        self.environment = os.environ | {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1", "NO_COLOR": "1", "COLUMNS": "200"}

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*PROGRAM, *arguments], cwd=self.place, env=self.environment, capture_output=True, text=True, timeout=240, check=False
        )

    def start(self, *arguments: str) -> Program:
        """In the background; what is still alive after the test is killed."""
        log = self.place / f"output-{len(self.started)}.txt"
        with log.open("w") as file:
            process = subprocess.Popen([*PROGRAM, *arguments], cwd=self.place, env=self.environment, stdout=file, stderr=subprocess.STDOUT)
        self.started.append(Program(process, log))
        return self.started[-1]

    def write_job(self, *, images_per_class: int = 40, epochs: int = 2) -> Path:
        source = write_image_folder(self.place / "images", classes=("disc", "ring", "square"), images_per_class=images_per_class, size=16)
        job = self.place / "job.yaml"
        job.write_text(JOB.format(source=source, epochs=epochs))
        return job


def wait_until(happened: Callable[[], bool], deadline_s: float = 120) -> None:
    """Poll until something has happened; fails after the deadline."""
    end = time.monotonic() + deadline_s
    while not happened():
        assert time.monotonic() < end, "the deadline passed"
        time.sleep(0.02)
