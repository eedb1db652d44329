"""A first job file for a folder of images."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from orchestrator.spec.yaml import dump_yaml

SMALL_SIDE = 64
"""Up to this side images are kept as they are and a small network suits them."""
LARGE_SIDE = 224
BATCH_MAX = 256
FEW_IMAGES = 20_000


@dataclass(frozen=True)
class FolderFacts:
    """What is known of a folder of images."""

    images: int
    classes: int
    splits: tuple[str, ...]
    """Names of the split folders that were found."""
    median_side: int
    """Shorter side, in pixels."""


def job_name(folder: Path) -> str:
    """The name of a folder as the name of a job."""
    return re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-")[:63] or "images"


def propose_job(folder: Path, facts: FolderFacts) -> str:
    """The text of a job file that trains on the folder."""
    small = facts.median_side <= SMALL_SIDE
    size = -(-facts.median_side // 4) * 4 if small else LARGE_SIDE
    model = ("resnet8" if facts.images < FEW_IMAGES else "resnet20") if small else "resnet18"
    batch = propose_batch(facts.images)
    split = _split_line(facts)
    padding = max(1, size // 16)
    return f"""\
name: {job_name(folder)}
data:
  {dump_yaml({"source": str(folder.resolve())}).strip()}   # {facts.images:,} images in {facts.classes} classes
{split}  image: {{size: {max(8, size)}, store: {"png" if small else "jpeg"}}}   # what is stored once and read every epoch
augment: [{{random_crop: {{padding: {padding}}}}}, horizontal_flip]   # leave the flip out where left and right matter
model: {{name: {model}}}
train:
  epochs: {20 if facts.images < FEW_IMAGES else 10}
  batch: {batch}   # images in one step, over all workers together
  lr: {0.1 * batch / BATCH_MAX:.2g}   # peak learning rate for that batch
"""


def propose_batch(images: int) -> int:
    """A power of two, at most a tenth of the images."""
    batch = 2
    while batch * 2 <= min(BATCH_MAX, images // 10):
        batch *= 2
    return batch


def _split_line(facts: FolderFacts) -> str:
    shares = [f"{name}: 0.1" for name in ("validation", "test") if name not in facts.splits]
    return f"  split: {{{', '.join(shares)}}}   # shares of the images, class by class\n" if shares else ""
