"""Checkpoints that are complete, hashed and finite, or not there.

A checkpoint is a folder `step-<number>` with the state, which holds its position too, and a manifest with the hash of the state. It
is written under another name, made durable, and renamed; a reader takes the newest one whose hash is right and whose numbers are
finite. What has a temporary name is read by nobody, and removed by the next save.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import astuple, dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from orchestrator import __version__
from orchestrator.durable import storage_error, sync_folder
from orchestrator.errors import TrainingError

STATE = "state.pt"
MANIFEST = "manifest.json"
FORMAT = 3
"""Of the state; one of another format cannot be continued."""
KEPT = 2
"""Checkpoints that stay; the older one is there for the day the newer one is damaged."""
VERSIONS = {"orchestrator": __version__, "torch": str(torch.__version__)}


@dataclass(frozen=True)
class Position:
    """The next step to be trained."""

    epoch: int
    step: int
    global_step: int


START = Position(0, 0, 0)


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A checkpoint that verified."""

    name: str
    position: Position
    state: dict[str, Any]
    versions: dict[str, str]
    """Of the programs that wrote it."""

    def changes(self, conditions: dict[str, Any]) -> list[str]:
        """What is not as it was when this was written, so that training goes on with other bits; a line for each.

        Args:
            conditions: As of `Trainer`.
        """
        before, now = self.versions | self.state.get("conditions", {}), VERSIONS | conditions
        return [f"{name}: {before[name]} before, {value} now" for name, value in now.items() if before.get(name, value) != value]


class OtherFormatError(ValueError):
    """The state is whole, and laid out in another way."""


UNUSABLE = (TrainingError, OSError, ValueError, KeyError, TypeError, RuntimeError, UnpicklingError)
"""What reading a checkpoint that cannot be used raises."""


@dataclass
class CheckpointStore:
    """The checkpoints of a run; one process at a time saves."""

    folder: Path
    damaged: list[tuple[str, str]] = field(default_factory=list)
    """Name and reason of each checkpoint that was found and not used."""

    def save(self, position: Position, state: dict[str, Any]) -> str:
        """Write a checkpoint and forget the oldest ones.

        Returns:
            Its name.

        Raises:
            TrainingError: A weight, or what the optimizer keeps of it, is not finite; nothing is written.
            StorageError: The storage is full or does not take the files.
        """
        check_state(state)
        name = f"step-{position.global_step:08d}-{position.epoch:04d}"
        temporary = self.folder / f".{name}.tmp"
        try:
            self._sweep()
            temporary.mkdir(parents=True)
            digest = _write_state(temporary / STATE, state | {"position": astuple(position)})
            manifest = {"format": FORMAT, "versions": VERSIONS, "files": {STATE: digest}}
            _write_durably(temporary / MANIFEST, json.dumps(manifest).encode())
            sync_folder(temporary)
            self._remove(self.folder / name)
            temporary.rename(self.folder / name)
            sync_folder(self.folder)
            self._prune(name)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise storage_error(error, self.folder / name) from error
        return name

    def newest(self) -> LoadedCheckpoint | None:
        """The newest checkpoint that verifies; the ones passed over are in `damaged`."""
        self.damaged.clear()
        for path in self._newest_first():
            try:
                return _read(path)
            except UNUSABLE as error:
                self.damaged.append((path.name, _reason(error)))
        return None

    def position(self) -> Position:
        """Where the newest checkpoint that verifies stands."""
        checkpoint = self.newest()
        return START if checkpoint is None else checkpoint.position

    def faults(self) -> Iterator[tuple[str, str]]:
        """Name and reason of every damaged checkpoint; one of another format is whole."""
        for path in self._newest_first():
            try:
                _read(path)
            except OtherFormatError:
                continue
            except UNUSABLE as error:
                yield path.name, _reason(error)

    def _newest_first(self) -> list[Path]:
        return sorted(self.folder.glob("step-*"), reverse=True)

    def _prune(self, saved: str) -> None:
        """Keep the last ones up to the one just saved; what lies beyond it was passed over, and must not crowd it out."""
        for path in [path for path in self._newest_first() if path.name <= saved][KEPT:]:
            self._remove(path)

    def _remove(self, path: Path) -> None:
        """Under another name first: killed on the way, this leaves nothing that looks like a damaged checkpoint."""
        if path.exists():
            shutil.rmtree(path.rename(self.folder / f".{path.name}.old.tmp"))

    def _sweep(self) -> None:
        """Remove what a killed writer left."""
        for path in self.folder.glob(".step-*.tmp"):
            shutil.rmtree(path, ignore_errors=True)


def _reason(error: Exception) -> str:
    return error.message if isinstance(error, TrainingError) else f"{type(error).__name__}: {error}"


def _read(path: Path) -> LoadedCheckpoint:
    """Raises: One of `UNUSABLE`: `OtherFormatError` where another version could use it."""
    manifest = json.loads((path / MANIFEST).read_bytes())
    content = (path / STATE).read_bytes()
    if hashlib.sha256(content).hexdigest() != manifest["files"][STATE]:
        raise ValueError(f"the hash of {STATE} is wrong")
    if (found := manifest.get("format", 1)) != FORMAT:
        raise OtherFormatError(f"it has format {found} of another version of orchestrator; this one continues format {FORMAT}")
    state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    check_state(state)
    return LoadedCheckpoint(path.name, Position(*state["position"]), state, dict(manifest["versions"]))


def resume_position(checkpoints: Path) -> Position:
    """Where training goes on; the start when there is no usable checkpoint."""
    return CheckpointStore(checkpoints).position()


def check_state(state: dict[str, Any]) -> None:
    """Raises:
    TrainingError: There is a number in it from which nothing can be trained.
    """
    check_finite(state["model"])
    check_finite(state.get("average") or {}, "averaged weights")
    check_finite(_optimizer_tensors(state), "sums of the optimizer")
    for rank, own in enumerate(state.get("ranks", ())):
        for kind, of in (("buffers", "model"), ("average_buffers", "average")):  # others, as a mask, may be infinite
            kept = {name: value for name, value in own.get(kind, {}).items() if name in state[of]}
            check_finite(kept, f"statistics of rank {rank}")


def check_finite(tensors: dict[str, torch.Tensor], what: str = "weights") -> None:
    """Raises:
    TrainingError: A parameter or a statistic is NaN or infinite.
    """
    broken = [name for name, tensor in tensors.items() if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all())]
    if broken:
        raise TrainingError(f"the {what} are not finite: {', '.join(broken[:3])}", "lower train.lr; the last checkpoint is from before")


def _optimizer_tensors(state: dict[str, Any]) -> dict[str, torch.Tensor]:
    kept = state.get("optimizer", {}).get("state", {})
    return {f"{key} of {number}": value for number, of in kept.items() for key, value in of.items() if isinstance(value, torch.Tensor)}


def _write_state(path: Path, state: dict[str, Any]) -> str:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    _write_durably(path, content)
    return hashlib.sha256(content).hexdigest()


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
