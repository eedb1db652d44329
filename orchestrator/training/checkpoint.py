"""Checkpoints that are complete, hashed and finite, or not there.

A checkpoint is a folder `step-<number>` with the state and a manifest of hashes. It is written under another name,
made durable, and renamed; a reader takes the newest one whose hashes agree.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from orchestrator import __version__
from orchestrator.durable import storage_error, sync_folder
from orchestrator.errors import TrainingError

STATE = "state.pt"
MANIFEST = "manifest.json"
FORMAT = 2
"""Of the state; one of another format cannot be continued."""
KEPT = 2
"""Checkpoints that stay; the older one is there for the day the newer one is damaged."""


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


@dataclass
class CheckpointStore:
    """The checkpoints of a run."""

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
        check_finite(state["model"])
        check_finite(state.get("average") or {}, "averaged weights")
        check_finite(_optimizer_tensors(state), "sums of the optimizer")
        name = f"step-{position.global_step:08d}-{position.epoch:04d}"
        temporary = self.folder / f".{name}.tmp"
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            digest = _write_state(temporary / STATE, state)
            manifest: dict[str, Any] = {"epoch": position.epoch, "step": position.step, "global_step": position.global_step}
            manifest |= {"format": FORMAT, "versions": {"orchestrator": __version__, "torch": torch.__version__}}
            _write_durably(temporary / MANIFEST, json.dumps(manifest | {"files": {STATE: digest}}).encode())
            shutil.rmtree(self.folder / name, ignore_errors=True)
            temporary.rename(self.folder / name)
            sync_folder(self.folder)
            self._prune()
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise storage_error(error, self.folder / name) from error
        return name

    def newest(self) -> LoadedCheckpoint | None:
        """The newest checkpoint that verifies; the ones passed over are in `damaged`."""
        return next(self._verified(load=True), None)

    def position(self) -> Position:
        """Where the newest checkpoint that verifies stands, without loading its tensors."""
        return next((checkpoint.position for checkpoint in self._verified(load=False)), START)

    def faults(self) -> list[tuple[str, str]]:
        """Name and reason of every damaged checkpoint; one of another format is whole."""
        self.damaged.clear()
        for _ in self._verified(load=False, any_format=True):
            pass
        return list(self.damaged)

    def _verified(self, *, load: bool, any_format: bool = False) -> Iterator[LoadedCheckpoint]:
        for path in sorted(self.folder.glob("step-*"), reverse=True):
            try:
                manifest = json.loads((path / MANIFEST).read_bytes())
                content = (path / STATE).read_bytes()
                position = Position(manifest["epoch"], manifest["step"], manifest["global_step"])
                check_hash(content, manifest["files"][STATE])
                if not any_format:
                    check_format(manifest)
            except (OSError, ValueError, KeyError, TypeError) as error:
                self.damaged.append((path.name, f"{type(error).__name__}: {error}"))
                continue
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True) if load else {}
            yield LoadedCheckpoint(path.name, position, state)

    def _prune(self) -> None:
        for path in sorted(self.folder.glob("step-*"), reverse=True)[KEPT:]:
            shutil.rmtree(path)


def check_hash(content: bytes, expected: str) -> None:
    """Raises: ValueError: The state is not the one that was saved."""
    if hashlib.sha256(content).hexdigest() != expected:
        raise ValueError(f"the hash of {STATE} is wrong")


def check_format(manifest: dict[str, Any]) -> None:
    """Raises: ValueError: The state is laid out in another way."""
    if (found := manifest.get("format", 1)) != FORMAT:
        raise ValueError(f"it has format {found} of another version of orchestrator; this one continues format {FORMAT}")


def resume_position(checkpoints: Path) -> Position:
    """Where training goes on; the start when there is no usable checkpoint."""
    return CheckpointStore(checkpoints).position()


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
