"""WebDataset: tar files in which the members of one sample share a name: `000123.jpg` beside `000123.cls`.

Archives are read, never extracted: an image is a stretch of its tar file. Labels stand in `.cls` (the text of one label) or
in the field `label` of `.json`, where `group` and `id` may stand as well.
"""

from __future__ import annotations

import json
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from orchestrator.dataset.listing import EXTENSIONS, Listing, class_names, extension_of, make_table, printable, source_problem
from orchestrator.dataset.sources.manifests import check_classes, ids_of, labels_of, split_and_group
from orchestrator.dataset.sources.parts import base_of, relative_to, splits_of
from orchestrator.dataset.sources.storage import ahead, file_facts, open_file, unreadable

LABEL = b".cls"
DESCRIPTION = b".json"
TEXT_BYTES_MAX = 65_536
"""A label or a description is short; longer ones are not read."""
LABELS = "each image needs a member of the same name that ends in .cls, with its label, or in .json, with a field label"
INDEX_THREADS = 8


@dataclass
class _Sample:
    """The members of one name."""

    images: list[tuple[bytes, int, int]] = field(default_factory=list)
    """Name, first byte and size of each."""
    facts: dict[str, str] = field(default_factory=dict)
    """`label`, `group`, `id`."""


@dataclass(frozen=True)
class _Indexed:
    """What one tar file holds."""

    table: pa.Table
    skipped: Counter[str]


def list_archives(source: str, parts: Sequence[str]) -> Listing:
    """List the images in tar files.

    Raises:
        JobError: They are missing, compressed or no tar files, or no image has a label.
        DataError: They cannot be read.
    """
    base = base_of(source, parts)
    names = [relative_to(base, part) for part in parts]
    found = list(
        ahead(lambda one: _index(base, *one), zip(parts, names, splits_of(names), strict=True), threads=min(INDEX_THREADS, len(parts)))
    )
    skipped: Counter[str] = sum((indexed.skipped for indexed in found), Counter())
    table = pa.concat_tables([indexed.table for indexed in found])
    if not table.num_rows:
        what = "no image has a label" if skipped["label_missing"] else "holds no images"
        raise source_problem(source, what, LABELS)
    classes = class_names(table["label"].to_pylist())
    check_classes(source, classes)
    columns = {name: table[name] for name in ("path", "size", "file", "place", "mtime_ns")}
    columns["id"] = ids_of(table, table["path"].to_pylist(), table["size"].to_numpy())
    columns["label"] = labels_of(table["label"], classes)
    return Listing(source, base, classes, make_table(columns | split_and_group(source, table)), dict(sorted(skipped.items())))


def _index(base: str, part: str, name: bytes, split: str) -> _Indexed:
    """Every image of one tar file that has a label."""
    skipped: Counter[str] = Counter()
    rows: list[dict[str, Any]] = []
    changed = file_facts(base, name)[1]
    for key, sample in _samples(part, skipped).items():
        if not sample.images:
            skipped["sample_without_an_image"] += 1
        elif not sample.facts.get("label"):
            skipped["label_missing"] += len(sample.images)
        else:
            skipped["second_image_of_a_sample"] += len(sample.images) - 1
            extension, start, size = sample.images[0]
            known = {"label": sample.facts["label"], "group": sample.facts.get("group"), "id": sample.facts.get("id"), "split": split}
            rows.append(known | {"path": name + b"/" + key + extension, "size": size, "file": name, "place": start, "mtime_ns": changed})
    schema = pa.schema(
        [("path", pa.binary()), ("size", pa.int64()), ("file", pa.binary()), ("place", pa.int64()), ("mtime_ns", pa.int64())]
        + [(column, pa.string()) for column in ("label", "group", "id", "split")]
    )
    return _Indexed(pa.Table.from_pylist(rows, schema=schema), +skipped)


def _samples(part: str, skipped: Counter[str]) -> dict[bytes, _Sample]:
    samples: dict[bytes, _Sample] = {}
    for archive, member in _members(part):
        path = member.name.encode("utf-8", "surrogateescape")
        if not member.isreg():
            skipped["not_a_regular_file"] += not member.isdir()
            continue
        folder, _, name = path.rpartition(b"/")
        if name.startswith(b"."):
            skipped["hidden"] += 1
            continue
        stem, dot, rest = name.partition(b".")
        key, extension = (folder + b"/" + stem).lstrip(b"/"), extension_of(name)
        sample = samples.setdefault(key, _Sample())
        if extension in EXTENSIONS:
            sample.images.append((dot + rest, member.offset_data, member.size))
        elif extension in (LABEL, DESCRIPTION) and member.size <= TEXT_BYTES_MAX:
            _note(sample, extension, _content(archive, member))
        else:
            skipped["extension_not_of_an_image"] += 1
    return samples


def _members(part: str) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """The members of a tar file, from their headers alone.

    Raises:
        JobError: It is missing, compressed, damaged, or no tar file.
        DataError: It cannot be read.
    """
    try:
        with open_file(part) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            while (member := archive.next()) is not None:
                yield archive, member
                archive.members.clear()  # type: ignore[attr-defined]  # tarfile keeps every header otherwise
    except FileNotFoundError as error:
        raise source_problem(part, "no such file", "name existing tar files") from error
    except tarfile.TarError as error:
        raise source_problem(
            part, f"is not a plain tar file: {error}", "compressed archives cannot be read in parts: unpack the compression"
        ) from error
    except OSError as error:
        raise unreadable(part, error) from error


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    return file.read() if file is not None else b""


def _note(sample: _Sample, extension: bytes, content: bytes) -> None:
    """Keep what a text member says; what cannot be understood says nothing, and the image counts as one without a label."""
    if extension == LABEL:
        sample.facts["label"] = printable(content).strip()
        return
    try:
        described = json.loads(content)
    except ValueError:
        return
    if isinstance(described, dict):
        sample.facts |= {name: str(described[name]) for name in ("label", "group", "id") if isinstance(described.get(name), str | int)}
