"""Faults in plain words, each with its place: never more than fit a screen."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Sequence
from typing import Any

from orchestrator.errors import JobError, Problem

KeyPath = tuple[str | int, ...]
"""`("augment", 0, "random_crop")` is the place of `padding` in `augment: [{random_crop: {padding: 2}}]`."""

SHOWN_MAX = 20
"""Problems in one message."""
TEXT_SHOWN_MAX = 60
SHORT_WORD = 3


def job_error(problems: Sequence[Problem]) -> JobError:
    """The error that shows all problems, or the first ones and how many more there are."""
    shown = tuple(problems[:SHOWN_MAX])
    if hidden := len(problems) - len(shown):
        shown += (Problem(shown[-1].where.split(":")[0], f"and {hidden:,} more"),)
    return JobError(shown)


def dotted(path: KeyPath) -> str:
    """`augment.0.random_crop`, shortened when it is not worth reading."""
    return _shortened(".".join(str(part) for part in path))


def given(value: Any) -> str:
    """A value as the user would write it."""
    if isinstance(value, dict):
        return "a section"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, str):
        return json.dumps(_shortened(value), ensure_ascii=False)
    if value is None:
        return "nothing"
    return str(value).lower() if isinstance(value, bool) else f"{value}"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant."""
    if len(word) > TEXT_SHOWN_MAX:
        return None
    cutoff = 0.5 if len(word) <= SHORT_WORD else 0.6
    found = difflib.get_close_matches(word.lower().replace("-", "_"), known, n=1, cutoff=cutoff)
    return found[0] if found else None


def _shortened(text: str) -> str:
    return text if len(text) <= TEXT_SHOWN_MAX else text[: TEXT_SHOWN_MAX - 3] + "..."
