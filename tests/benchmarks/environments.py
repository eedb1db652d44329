"""Environments for loaders that are no dependency of ours: one each, made once and kept."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

PACKAGES = {
    "spdl": ("spdl==0.8.0", "spdl_core==0.8.0", "spdl_io==0.8.0"),
    "webdataset": ("webdataset==1.0.2", "torch"),
    "ray-data": ("ray[data,train]", "aiohttp", "pillow==13.0.0", "torch"),
}
"""What a loader needs besides OpenCV and numpy; without a version: ours. `read_images` needs Pillow, `iter_torch_batches` Ray Train;
without aiohttp two threads of Ray Data can trip over a failed import."""
SHARED = ("numpy", "opencv-python-headless")
CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"
"""Decides about what the packages need themselves."""
MADE = ".made"


@dataclass(frozen=True)
class Environment:
    """Where a loader can run."""

    python: Path
    loader: str
    """The package and its version."""


def environment_of(loader: str, folder: Path) -> Environment:
    """Made in `folder` where it is missing; ours for a loader that we have.

    Raises:
        CalledProcessError: pip could not install it, and has said why.
    """
    if loader not in PACKAGES:
        return Environment(Path(sys.executable), f"{loader} {version(loader)}")
    requirements = requirements_of(loader)
    place = folder / "-".join([loader, *(requirement.partition("==")[2] for requirement in requirements)])
    python = (place / "bin" / "python").absolute()
    if not (place / MADE).exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", place], check=True, stdout=sys.stderr)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-c", CONSTRAINTS, *requirements], check=True, stdout=sys.stderr)
        (place / MADE).touch()
    return Environment(python, requirements[0].replace("==", " "))


def requirements_of(loader: str) -> list[str]:
    """With their versions."""
    return [_pinned(name) for name in (*PACKAGES[loader], *SHARED)]


def _pinned(requirement: str) -> str:
    """A build such as `+cpu` is left to pip."""
    if "==" in requirement:
        return requirement
    return f"{requirement}=={version(requirement.partition('[')[0]).partition('+')[0]}"
