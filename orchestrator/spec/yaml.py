"""A strict, small YAML: plain data with the place of every key, from text of any origin.

YAML 1.2 core scalars; no duplicate keys, aliases, anchors, tags or merge keys; bounded size, depth and number of values.
The values are built from PyYAML's stream of events, so that the bounds hold before anything large exists.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import yaml

from orchestrator.errors import JobError, Problem
from orchestrator.spec.problems import KeyPath, dotted, job_error
from orchestrator.spec.scalars import BOOLEAN, FLOAT, HIDDEN, INTEGER, NULL, Scalar, core_scalar
from orchestrator.units import format_bytes

SIZE_BYTES_MAX = 2**20
DEPTH_MAX = 32
NODES_MAX = 10_000

PLAIN_WORDS = (
    (r"found character '\\t'", "a tab stands where spaces are expected; indent with spaces"),
    (r"found character (?P<what>'.')", "a value cannot begin with {what}; put it in quotes"),
    (r"mapping values are not allowed", 'this colon is out of place; check the indentation, and put values with ": " inside in quotes'),
    (r"could not find expected ':'", "a key needs a colon and a space after it"),
    (r"expected <block end>|did not find expected <document start>", "the indentation does not fit the lines above"),
    (r"expected ',' or '(?P<what>.)'", 'a "," or a closing "{what}" is missing'),
    (r"found unexpected end of stream", "a quote is opened and never closed"),
)
"""PyYAML's messages, by their beginnings, in the words of the people who write job files."""


@dataclass(frozen=True)
class Position:
    """A place in a file; both numbers begin at 1."""

    line: int
    column: int


@dataclass(frozen=True)
class Document:
    """Plain data, and where each of its keys and list items stands."""

    file: str
    data: dict[str, Any]
    positions: dict[KeyPath, Position]
    """The empty path is the place of the first key."""

    def line(self, path: KeyPath) -> int:
        """The line of a key; of the section around it when it is not in the file."""
        while path not in self.positions:
            path = path[:-1]
        return self.positions[path].line


def load_yaml(text: str, file: str) -> Document:
    """Read a file's text; `file` is its name in error messages.

    Raises:
        JobError: It is not YAML, breaks one of the rules above, or is not a mapping.
    """

    def place(line: int) -> str:
        return f"{file}:{line}"

    if len(text) > SIZE_BYTES_MAX:
        raise too_large(file)
    text = text.removeprefix("\ufeff")
    if found := HIDDEN.search(text):
        raise job_error((Problem(place(text.count("\n", 0, found.start()) + 1), _hidden(found.group())),))
    builder = _Builder(text, place)
    data = builder.document(())
    if data is None:
        raise job_error((Problem(file, "the file is empty; a job needs at least a name and data: {source: FOLDER}"),))
    if not isinstance(data, dict):
        raise job_error(
            (Problem(place(builder.positions[()].line), "a job is made of lines such as `name: my-job`; this is something else"),)
        )
    return Document(file, data, builder.positions)


def parse_value(text: str, place: str, path: KeyPath) -> Any:
    """The value of an override: a word, a quoted text, a flow list or a flow mapping. Words are taken as they stand, also `*` and `a #b`.

    Args:
        text: What stands after the `=`.
        place: Named in error messages, before the path.
        path: The key that gets the value.

    Raises:
        JobError: The value is not well formed.
    """
    text = text.strip()
    if found := HIDDEN.search(text):
        raise job_error((Problem(f"{place}  {dotted(path)}", _hidden(found.group())),))
    if text.startswith(("[", "{", '"', "'")):
        return _Builder(text, lambda _: place).document(path)
    try:
        return core_scalar(text)
    except ValueError as error:
        raise job_error((Problem(f"{place}  {dotted(path)}", str(error)),)) from error


def decode(raw: bytes, file: str) -> str:
    """The text of a file.

    Raises:
        JobError: It is too large, or not UTF-8.
    """
    if len(raw) > SIZE_BYTES_MAX:
        raise too_large(file)
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise job_error((Problem(f"{file}:1", "the file is UTF-16; save it as UTF-8"),))
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise job_error((Problem(f"{file}:{line}", f"byte 0x{error.object[error.start]:02x} is not UTF-8; a job file is text"),)) from error


def too_large(file: str) -> JobError:
    return job_error((Problem(file, f"a job file is at most {format_bytes(SIZE_BYTES_MAX)}"),))


def dump_yaml(value: Any) -> str:
    """Plain data as YAML that `load_yaml` reads back to the same data, and YAML 1.1 programs as well."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)


class _Builder:
    """Builds one document from events; faults that leave the structure readable are collected."""

    def __init__(self, text: str, place: Callable[[int], str]) -> None:
        self._loader = yaml.SafeLoader(text)
        self._place = place
        self._problems: list[Problem] = []
        self._nodes = 0
        self.positions: dict[KeyPath, Position] = {}

    def document(self, path: KeyPath) -> Any:
        try:
            value = self._document(path)
        except yaml.MarkedYAMLError as error:
            raise job_error((self._syntax_problem(error),)) from error
        except (ValueError, OverflowError) as error:  # PyYAML on numbers in escapes and directives that no character or version has
            line = self._loader.get_mark().line + 1
            raise job_error((Problem(self._place(line), f"not valid YAML: {error}"),)) from error
        finally:
            self._loader.dispose()
        if self._problems:
            raise job_error(self._problems)
        return value

    def _document(self, path: KeyPath) -> Any:
        self._next()  # the start of the stream
        first = self._next()
        if isinstance(first, yaml.StreamEndEvent):
            return None
        root = self._next()
        self._remember(path, root)
        value = self._value(root, path, depth=1)
        self._next()  # the end of the document
        if not isinstance(rest := self._next(), yaml.StreamEndEvent):
            self._blame(rest, (), "a second document begins here; a job file holds one")
        return value

    def _next(self) -> Any:
        return self._loader.get_event()  # type: ignore[no-untyped-call]  # its stubs leave it out

    def _value(self, event: Any, path: KeyPath, depth: int) -> Any:
        self._check(event, path)
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, path)
        if isinstance(event, yaml.AliasEvent):
            return None
        if depth > DEPTH_MAX:
            self._stop(event, f"nested more than {DEPTH_MAX} levels deep")
        return self._mapping(path, depth) if isinstance(event, yaml.MappingStartEvent) else self._sequence(path, depth)

    def _check(self, event: Any, path: KeyPath) -> None:
        self._nodes += 1
        if self._nodes > NODES_MAX:
            self._stop(event, f"a job file holds at most {NODES_MAX:,} keys and values")
        if isinstance(event, yaml.AliasEvent):
            self._blame(event, path, f"aliases are not allowed; write the value out instead of *{event.anchor}")
        elif event.anchor:
            self._blame(event, path, f"anchors are not allowed; remove &{event.anchor}")
        if getattr(event, "tag", None):
            self._blame(event, path, f"tags are not allowed; remove {event.tag.replace('tag:yaml.org,2002:', '!!')}")

    def _scalar(self, event: yaml.ScalarEvent, path: KeyPath) -> Scalar:
        if found := HIDDEN.search(event.value):
            self._blame(event, path, _hidden(found.group()))
            return None
        if event.style is not None:
            return str(event.value)
        try:
            return core_scalar(event.value)
        except ValueError as error:
            self._blame(event, path, str(error))
            return None

    def _sequence(self, path: KeyPath, depth: int) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            inside = (*path, len(items))
            self._remember(inside, event)
            items.append(self._value(event, inside, depth + 1))
        return items

    def _mapping(self, path: KeyPath, depth: int) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            key = self._key(event, path)
            inside = (*path, key)
            if key in entries:
                self._blame(event, inside, f"this key was given on line {self.positions[inside].line} already; keep one of them")
                self._value(self._next(), inside, depth + 1)
                continue
            self._remember(inside, event)
            entries[key] = self._value(self._next(), inside, depth + 1)
        return entries

    def _key(self, event: Any, path: KeyPath) -> str:
        self._check(event, path)
        if not isinstance(event, yaml.ScalarEvent):
            self._stop(event, "a key must be a word; put a value that begins with *, [ or { in quotes")
        if event.value == "<<" and event.style is None:
            self._blame(event, path, "merge keys (<<) are not allowed; write the keys out")
        if found := HIDDEN.search(event.value):
            self._blame(event, path, _hidden(found.group()))
        return str(event.value)

    def _remember(self, path: KeyPath, event: Any) -> None:
        self.positions[path] = Position(event.start_mark.line + 1, event.start_mark.column + 1)

    def _blame(self, event: Any, path: KeyPath, what: str) -> None:
        place = self._place(event.start_mark.line + 1)
        self._problems.append(Problem(f"{place}  {dotted(path)}" if path else place, what))

    def _stop(self, event: Any, what: str) -> NoReturn:
        self._blame(event, (), what)
        raise job_error(self._problems)

    def _syntax_problem(self, error: yaml.MarkedYAMLError) -> Problem:
        """Where something was opened or begun says more than where its end was missed."""
        said = error.problem or ""
        begun = said.startswith(("could not find expected ':'", "found unexpected end of stream"))
        mark = (begun and error.context_mark) or error.problem_mark or error.context_mark
        place = self._place(mark.line + 1 if mark else 1)
        for pattern, words in PLAIN_WORDS:
            if found := re.match(pattern, said):
                return Problem(place, "not valid YAML: " + words.format(**found.groupdict()))
        return Problem(place, f"not valid YAML: {said}")


def _hidden(character: str) -> str:
    return f"the invisible character {json.dumps(character)} is not allowed"


class _Dumper(yaml.SafeDumper):
    """Quotes every text that YAML 1.1 or 1.2 would take for something else, and writes no aliases."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 -- PyYAML's signature
        return True


for _tag, _pattern in (("null", NULL), ("bool", BOOLEAN), ("int", INTEGER), ("float", FLOAT)):
    _Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _pattern, None)
