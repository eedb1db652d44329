"""What pydantic found wrong with a job, in the words of the people who write job files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestrator.spec.fields import all_paths, description_of, known_path, required_paths, section_at
from orchestrator.spec.problems import SHOWN_MAX, KeyPath, dotted, given, nearest

PydanticError = Mapping[str, Any]
Fault = tuple[KeyPath, str]
"""Where and what."""

KINDS = {
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "bool_type": "true or false",
    "model_type": "a section with keys",
    "tuple_type": "a list",
    "range_type": "a range such as [1, 4]",
    "dict_type": "a section with keys",
}
"""What a value of the wrong kind ought to be."""
BOUNDS = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "greater than"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "less than"),
}
STEP_DEPTH = 3
"""Parts of `augment.0.random_crop`."""
NAME_RULE = "made of lower-case letters, digits and hyphens, at most 63, the first one no hyphen"
TEXTS = {"string_too_short": "not be empty", "string_pattern_mismatch": f"be {NAME_RULE}"}


def faults(errors: Sequence[PydanticError]) -> list[Fault]:
    """The faults behind pydantic's errors: one for each key, none for a missing key that was only misspelled."""
    grouped: dict[KeyPath, list[PydanticError]] = {}
    for error in errors:
        grouped.setdefault(known_path(error["loc"]), []).append(error)
    unknown = [path for path, found in grouped.items() if found[0]["type"] == "extra_forbidden"]
    meant = {(*path[:-1], near) for path in unknown[:SHOWN_MAX] if (near := _near_sibling(path))}
    found: list[Fault] = []
    for path, same_key in grouped.items():
        if len(found) > SHOWN_MAX:
            found.append((path, "another fault"))  # counted, not shown
        elif same_key[0]["type"] != "missing":
            found.append((path, _words(path, same_key)))
        elif path not in meant:
            found.extend(_missing(path))
    return found


def _missing(path: KeyPath) -> Iterator[Fault]:
    for required in required_paths(path):
        about = description_of(required).rstrip(".")
        yield required, f"missing key: {about[:1].lower()}{about[1:]}"


def _words(path: KeyPath, errors: Sequence[PydanticError]) -> str:
    """One sentence; several errors are the branches of a union, of which the one that came farthest says most.

    Among those, a broken bound or a sentence of ours.
    """
    depth = max(len(error["loc"]) for error in errors)
    errors = [error for error in errors if len(error["loc"]) == depth]
    first = next((error for error in errors if error["type"] in (*BOUNDS, "value_error")), errors[0])
    kind, value = first["type"], first["input"]
    if kind == "extra_forbidden":
        return _unknown(path)
    if kind == "value_error":
        return str(first["ctx"]["error"])
    if value is None:
        return "has no value; give it one, or remove the key"
    if kind in BOUNDS:
        name, words = BOUNDS[kind]
        return f"must be {words} {_plain(first['ctx'][name])}, not {given(value)}"
    if kind in TEXTS:
        return f"must {TEXTS[kind]}, not {given(value)}"
    return f"must be {' or '.join(_wanted(error) for error in errors)}, not {given(value)}{_hint(errors, value)}"


def _wanted(error: PydanticError) -> str:
    return str(error["ctx"]["expected"]).replace("'", "") if error["type"] == "literal_error" else KINDS[error["type"]]


def _hint(errors: Sequence[PydanticError], value: Any) -> str:
    choices = [
        choice for error in errors if error["type"] == "literal_error" for choice in re.findall(r"'([^']*)'", error["ctx"]["expected"])
    ]
    near = nearest(value, choices) if isinstance(value, str) else None
    return f'; did you mean "{near}"?' if near else ""


def _unknown(path: KeyPath) -> str:
    key = str(path[-1])
    section = section_at(path[:-1])
    known = list(section.model_fields) if section else []
    if ":" in key and key.split(":", maxsplit=1)[0] in known:
        return "a space is missing after the colon"
    elsewhere = [dotted(other) for other in _suggested() if other[-1] == key]
    near = elsewhere or [found for found in [nearest(key, known) or _near_elsewhere(key)] if found]
    if near:
        return f"unknown key; did you mean {' or '.join(_quoted(found) for found in near)}?"
    return f"unknown key; known here: {', '.join(known)}"


def _suggested() -> Iterator[KeyPath]:
    """The keys that somebody may look for at another place; those inside augmentations are many, and alike."""
    return (path for path in all_paths() if len(path) <= STEP_DEPTH or path[0] != "augment")


def _near_sibling(path: KeyPath) -> str | None:
    section = section_at(path[:-1])
    return nearest(str(path[-1]), section.model_fields) if section else None


def _near_elsewhere(key: str) -> str | None:
    paths = {str(path[-1]): path for path in _suggested()}
    near = nearest(key, paths)
    return dotted(paths[near]) if near else None


def _quoted(text: str) -> str:
    return f'"{text}"'


def _plain(bound: float) -> str:
    return f"{int(bound)}" if float(bound).is_integer() else f"{bound:g}"
