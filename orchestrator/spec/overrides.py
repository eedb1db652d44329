"""Changes from the command line: `train.lr=0.1`, applied to the plain data of a job file before it is checked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.errors import JobError, Problem
from orchestrator.spec.problems import KeyPath, dotted, given
from orchestrator.spec.yaml import DEPTH_MAX, parse_value

COMMAND_LINE = "command line"
INDEX = re.compile(r"[0-9]{1,6}\Z")


@dataclass(frozen=True)
class Overridden:
    """The data with every change that could be applied."""

    data: dict[str, Any]
    paths: frozenset[KeyPath]
    """What was set, and the sections that came into being for it."""
    problems: tuple[Problem, ...]
    """The changes that could not be applied."""

    def holds(self, path: KeyPath) -> bool:
        """Whether a key, or a section around it, comes from the command line."""
        return any(path[:length] in self.paths for length in range(1, len(path) + 1))


def apply_overrides(data: dict[str, Any], overrides: Sequence[str]) -> Overridden:
    """Apply `key=value` texts in their order, the last one wins; `data` stays as it is.

    A key is a dotted path, with the place of list items as numbers: `augment.0.random_crop.padding=2`.
    """
    changed = _copy(data)
    paths: set[KeyPath] = set()
    problems: list[Problem] = []
    for override in overrides:
        try:
            paths |= _apply(changed, override)
        except JobError as error:
            problems.extend(error.problems)
    return Overridden(changed, frozenset(paths), tuple(problems))


def _apply(data: dict[str, Any], override: str) -> set[KeyPath]:
    """Set one value in place.

    Raises:
        JobError: It is not `key=value`, or its path leads through a value or beside a list.
    """
    key, separator, text = override.partition("=")
    parts = tuple(key.strip().split("."))
    if not separator or not all(parts):
        raise _fault((), f"{given(override)} is not key=value, such as train.epochs=3")
    if len(parts) > DEPTH_MAX:
        raise _fault(parts, f"a key has at most {DEPTH_MAX} parts")
    value = parse_value(text, COMMAND_LINE, parts)
    container: Any = data
    path: KeyPath = ()
    made: set[KeyPath] = set()
    for part, following in zip(parts, [*parts[1:], None], strict=True):
        step = _step(container, part, path)
        path = (*path, step)
        if following is None:
            container[step] = value
        elif _opened(container, step, following):
            made.add(path)
        container = container[step]
    return made | {path}


def _step(container: Any, part: str, path: KeyPath) -> str | int:
    """The key or place that `part` means inside `container`, which stands at `path`."""
    if isinstance(container, dict):
        return part
    if not isinstance(container, list):
        raise _fault((*path, part), f"{dotted(path)} is {given(container)}, which has no keys inside")
    if INDEX.match(part) and int(part) < len(container):
        return int(part)
    places = f"0 to {len(container) - 1}" if container else "none; it is empty"
    raise _fault((*path, part), f"{dotted(path)} is a list; its places are {places}")


def _opened(container: Any, step: str | int, following: str) -> bool:
    """Make the value at `step` a section where it stands for one; says whether a new one came into being."""
    value = container.get(step) if isinstance(container, dict) else container[step]
    if value is None:
        container[step] = {}
        return True
    if value == following:
        container[step] = {value: {}}  # the name alone, as in `augment: [horizontal_flip]`
    return False


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(inner) for key, inner in value.items()}
    return [_copy(inner) for inner in value] if isinstance(value, list) else value


def _fault(path: KeyPath, what: str) -> JobError:
    return JobError((Problem(f"{COMMAND_LINE}  {dotted(path)}" if path else COMMAND_LINE, what),))
