"""The keys of a job file, as the models declare them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args, get_origin

from orchestrator.spec.job import JobSpec
from orchestrator.spec.problems import KeyPath
from orchestrator.spec.section import Section


def section_in(annotation: Any) -> type[Section] | None:
    """The section that a field holds: `AugmentStep` for `tuple[AugmentStep, ...]`, nothing for `int`."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next((section for part in get_args(annotation) if (section := section_in(part))), None)


def section_at(path: KeyPath) -> type[Section] | None:
    """The section whose keys stand under `path`; nothing when `path` is a value or unknown."""
    section: type[Section] | None = JobSpec
    for part in path:
        if isinstance(part, int):
            continue
        field = section.model_fields.get(part) if section else None
        section = section_in(field.annotation) if field else None
    return section


def known_path(location: KeyPath) -> KeyPath:
    """A location as pydantic reports it, without the names that pydantic gives to the branches of a union."""
    path: KeyPath = ()
    for part in location:
        if isinstance(part, str) and section_at(path) is None:
            break
        path = (*path, part)
    return path


def all_paths(section: type[Section] = JobSpec, inside: KeyPath = ()) -> Iterator[KeyPath]:
    """Every key of a job file; the keys of list items under the item 0."""
    for name, field in section.model_fields.items():
        path = (*inside, name)
        yield path
        if found := section_in(field.annotation):
            yield from all_paths(found, (*path, 0) if get_origin(field.annotation) is tuple else path)


def required_paths(path: KeyPath) -> Iterator[KeyPath]:
    """A missing key; for a section, the keys in it that have no default."""
    section = section_at(path)
    required = [name for name, field in section.model_fields.items() if field.is_required()] if section else []
    if not required:
        yield path
    for name in required:
        yield from required_paths((*path, name))


def description_of(path: KeyPath) -> str:
    """What the schema says about a key."""
    section, name = section_at(path[:-1]), path[-1]
    field = section.model_fields.get(name) if section and isinstance(name, str) else None
    return field.description or "" if field else ""
