"""Fields of events and of JSON files, read so that a missing or odd one is an absence and never an error."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from typing import Any


def number(record: Mapping[str, Any], key: str) -> float | None:
    """A finite number, or `None`."""
    value = record.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def whole(record: Mapping[str, Any], key: str) -> int | None:
    value = number(record, key)
    return None if value is None else int(value)


def epoch_number(event: Mapping[str, Any]) -> int | None:
    """Events count epochs from 0, people from 1."""
    epoch = whole(event, "epoch")
    return None if epoch is None else epoch + 1


def text(record: Mapping[str, Any], key: str) -> str:
    """Empty when there is none."""
    value = record.get(key)
    return "" if value is None else encodable(str(value))


def counts(record: Mapping[str, Any], key: str) -> dict[str, int]:
    """Counts by name; empty when the field is no mapping."""
    value = record.get(key)
    if not isinstance(value, Mapping):
        return {}
    return {encodable(str(name)): count for name in value if (count := whole(value, name)) is not None}


def encodable(value: str) -> str:
    """Bytes of file names that are not UTF-8 arrive as lone surrogates, which no file or terminal takes."""
    return value.encode("utf-8", "backslashreplace").decode()


def visible(value: str) -> str:
    """One line without control characters, so that a file name cannot steer the terminal it is printed on."""
    return "".join(_visible_character(character) for character in encodable(value))


def _visible_character(character: str) -> str:
    if character in "\n\t":
        return " "
    return "\N{REPLACEMENT CHARACTER}" if unicodedata.category(character) in ("Cc", "Cf") else character
