"""The health of the prepared data, copied into the run that uses it, with pictures of the pairs that somebody should look at."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.dataset.health import HEALTH, write_health
from orchestrator.dataset.manifest import Manifest
from orchestrator.dataset.shards import SHARDS, read_rows
from orchestrator.durable import read_json, write_json
from orchestrator.record.folder import RunFolder
from orchestrator.record.journal import Journal
from orchestrator.stages.augmentation import view_of

PICTURE_SIDE = 256
"""Pixels, at most: enough to compare two pictures by eye."""


def show_health(folder: RunFolder, data: Path, manifest: Manifest, journal: Journal) -> None:
    """Measure the data unless an earlier run has, and write `health.json` of the run.

    Raises:
        StorageError: A shard is damaged, or the storage is full.
    """
    if folder.health.is_file():
        return
    health: dict[str, Any] = read_json(data / HEALTH) if (data / HEALTH).is_file() else write_health(data, manifest)
    pairs = [
        pair | {"first": _with_picture(pair["first"], data, manifest), "second": _with_picture(pair["second"], data, manifest)}
        for pair in health["pairs"]
    ]
    write_json(folder.health, health | {"pairs": pairs})
    found = {f"{kind}_{fault}": health[kind][fault] for kind in ("same_file", "look_alike") for fault in ("leaks", "label_conflicts")}
    journal.record("HealthMeasured", misnamed=health["misnamed"], **found)


def _with_picture(sample: dict[str, Any], data: Path, manifest: Manifest) -> dict[str, Any]:
    (stored,) = read_rows(data / SHARDS / sample["shard"], np.array([sample["row"]], np.int64)).images
    view = view_of(manifest.image, min(manifest.image.size, PICTURE_SIDE))
    return sample | {"png": base64.b64encode(view.to_png(stored)).decode()}
