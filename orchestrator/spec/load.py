"""From a job file to a checked job: every fault at once, each with its line or its place on the command line."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from orchestrator.errors import JobError, Problem
from orchestrator.spec.faults import faults
from orchestrator.spec.job import JobSpec
from orchestrator.spec.overrides import COMMAND_LINE, Overridden, apply_overrides
from orchestrator.spec.problems import KeyPath, dotted, job_error
from orchestrator.spec.tune import space_faults
from orchestrator.spec.yaml import SIZE_BYTES_MAX, Document, decode, load_yaml

PLACES: tuple[tuple[str, str], ...] = (("data", "source"), ("model", "weights"))
"""Keys that hold a path or an address."""
URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


@dataclass(frozen=True)
class LoadedJob:
    """A job and what it was read from."""

    job: JobSpec
    text: str
    """What the user wrote, without the changes of the command line."""
    path: Path


def load_job(path: Path, overrides: Sequence[str] = ()) -> LoadedJob:
    """Read a job file and apply `key=value` changes.

    `data.source` and `model.weights` become absolute paths: from the folder of the job file where they stand in the file, from the
    working directory where they were typed on the command line.

    Raises:
        JobError: With every fault of the file and of the changes, in the order of the file.
    """
    text = read_text(path)
    document = load_yaml(text, str(path))
    changed = apply_overrides(document.data, overrides)
    try:
        job = JobSpec.model_validate(changed.data)
    except ValidationError as error:
        found = faults(error.errors(include_url=False))
        raise job_error((*_in_order(found, document, changed), *changed.problems)) from error
    if changed.problems or (found := space_faults(job)):
        raise job_error(changed.problems or _in_order(found, document, changed))
    for section, key in PLACES:
        place = getattr(getattr(job, section), key)
        if place is None:
            continue
        base = Path.cwd() if changed.holds((section, key)) else path.parent
        try:
            absolute = absolute_source(place, base)
        except (RuntimeError, OSError) as error:  # no such user's home; a circle of links
            raise job_error((Problem(_where((section, key), document, changed), f"{place}: {error}"),)) from error
        job = job.model_copy(update={section: getattr(job, section).model_copy(update={key: absolute})})
    return LoadedJob(job, text, path)


def absolute_source(source: str, base: Path) -> str:
    """`~` is the home folder, the rest is seen from `base`; addresses such as `s3://` stay as they are."""
    return source if URI.match(source) else str((base / Path(source).expanduser()).resolve())


def read_text(path: Path) -> str:
    """The text of a job file.

    Raises:
        JobError: It is missing, a folder, not readable, too large, or not text.
    """
    try:
        with path.open("rb") as file:
            return decode(file.read(SIZE_BYTES_MAX + 1), str(path))
    except FileNotFoundError as error:
        raise JobError((Problem(str(path), f"no such job file{_near_file(path)}"),), "orchestrator init FOLDER writes one") from error
    except IsADirectoryError as error:
        raise JobError((Problem(str(path), "a folder, not a job file"),), f"orchestrator init {path} writes one for it") from error
    except OSError as error:
        raise JobError((Problem(str(path), f"cannot be read: {error.strerror}"),)) from error


def _near_file(path: Path) -> str:
    try:
        names = [found.name for found in path.parent.glob("*.y*ml")]
    except OSError:
        names = []
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"; did you mean {path.with_name(near[0])}?" if near else ""


def _in_order(found: list[tuple[KeyPath, str]], document: Document, changed: Overridden) -> list[Problem]:
    """In the order of the file, then those of the command line."""

    def line(fault: tuple[KeyPath, str]) -> float:
        return math.inf if changed.holds(fault[0]) else document.line(fault[0])

    return [Problem(_where(path, document, changed), what) for path, what in sorted(found, key=line)]


def _where(path: KeyPath, document: Document, changed: Overridden) -> str:
    place = COMMAND_LINE if changed.holds(path) else f"{document.file}:{document.line(path)}"
    return f"{place}  {dotted(path)}" if path else place
