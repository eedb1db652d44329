"""Verifying a run with its prepared data, or prepared data alone."""

from __future__ import annotations

from pathlib import Path

from orchestrator.dataset.verify import data_faults
from orchestrator.durable import read_json
from orchestrator.errors import RunNotFound
from orchestrator.record.folder import Root


def verify(name: str, root: Root) -> tuple[Path, list[str]]:
    """What was verified, and what is damaged or missing of it.

    Args:
        name: A run, the fingerprint of prepared data, or the folder of either.
        root: Holds both.

    Raises:
        RunNotFound: There is neither.
    """
    for data in (root.data / name, Path(name)):
        if (data / "listing.parquet").is_file() or (data / "manifest.json").is_file():
            return data, data_faults(data)
    try:
        folder = root.find_run(name)
    except RunNotFound as error:
        raise RunNotFound(f"no run and no prepared data named {name} in {root.path}", error.next_step) from error
    from orchestrator.stages.verify import run_faults

    faults = run_faults(folder)
    if folder.plan.is_file():
        data = root.data / str(read_json(folder.plan)["fingerprint"])
        faults += data_faults(data) if data.is_dir() else [f"{data} is missing"]
    return folder.path, faults
