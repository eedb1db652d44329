"""A small job on a real folder of images, and a root for its runs."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from orchestrator.launch.run import RunOutcome, RunRequest, run_job
from orchestrator.record.folder import Root
from orchestrator.spec.load import load_job
from orchestrator.testing import write_image_folder

CLASSES = ("disc", "ring", "square")

JOB = """\
name: shapes
data:
  source: {source}
  image: {{size: 16, store: png}}
  split: {{validation: 0.2, test: 0.2}}
  shard_rows: 32
model: {{name: resnet8, norm: group}}
train: {{epochs: 2, batch: 16, lr: 0.05, workers: 1, shuffle_window: 2}}
evaluate: {{batch: 16, mistakes: 5}}
"""


@dataclass(frozen=True)
class Workshop:
    """A folder of images and a root for runs."""

    images: Path
    root: Root
    job: Path

    def run(self, *overrides: str, in_process: bool, until: str = "evaluate") -> RunOutcome:
        loaded = load_job(self.job, overrides)
        return run_job(RunRequest(loaded, self.root, until, in_process, "test", lambda _: nullcontext(), lambda _: None))


def workshop_in(place: Path, images_per_class: int = 40) -> Workshop:
    """A job on `images_per_class` images of three classes."""
    images = write_image_folder(place / "images", classes=CLASSES, images_per_class=images_per_class, size=16)
    job = place / "job.yaml"
    job.write_text(JOB.format(source=images))
    return Workshop(images, Root(place / "root"), job)
