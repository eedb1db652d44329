"""The health of prepared data: its balance, its sizes and kinds, its duplicates, and what leaked between the splits.

Everything comes from the columns of the shards; no pixel is read again. Two pictures look alike when their difference hashes
differ in few bits and their small grey copies are the same up to brightness and contrast. Candidates share one of 16 slices
of 16 bits, which two hashes that differ in fewer than 16 bits always do; inside a slice each hash is compared with its next
neighbours in the order of all bits.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from orchestrator.dataset.manifest import Manifest
from orchestrator.dataset.shards import SHARDS, read_facts
from orchestrator.dataset.splits import SPLITS
from orchestrator.durable import write_json

HEALTH = "health.json"
PAIRS_SHOWN = 24
NEAR_BITS = 6
"""Of 256: pictures whose hashes differ in at most so many look the same."""
PLAIN_BITS = 24
"""Hashes with fewer ones, or fewer zeros, are of pictures with next to nothing on them, which all look the same."""
ALIKE = 0.985
"""Correlation of the small grey copies of pictures that look the same."""
HASH_BYTES = 32
NEIGHBOURS = 8
NEAR_IMAGES_MAX = 2_000_000
"""Beyond this only exact duplicates are looked for: the hashes of all images are compared in memory."""
QUANTILES = (0.0, 0.05, 0.5, 0.95, 1.0)
FORMATS = {"jpg": "jpeg", "jpeg": "jpeg", "png": "png", "webp": "webp", "bmp": "bmp"}


@dataclass(frozen=True)
class Sample:
    """One image of a pair."""

    id: str
    path: str
    split: str
    name: str
    """Its class."""
    shard: str
    row: int
    """Where it is stored."""


@dataclass(frozen=True)
class Pair:
    """Two images that are, or look, the same."""

    kind: str
    """`same file` or `look alike`."""
    fault: str
    """`leak`: in different splits; `label`: in different classes; `leak and label`; empty for mere duplicates."""
    first: Sample
    second: Sample


@dataclass(frozen=True)
class _Facts:
    """The columns of all shards, one after the other."""

    table: pa.Table
    splits: NDArray[np.int8]
    labels: NDArray[np.int64]
    files: NDArray[np.uint64]
    """First 64 bits of the SHA-256 of the source files."""
    looks: NDArray[np.uint8]
    """(rows, 32): hashes."""
    copies: NDArray[np.uint8]
    """(rows, 64): small grey copies."""


def write_health(data: Path, manifest: Manifest) -> dict[str, Any]:
    """Measure prepared data and store what was found as `health.json` beside its manifest.

    Raises:
        StorageError: A shard is damaged, or the storage is full.
    """
    health = measure_health(data, manifest)
    write_json(data / HEALTH, health)
    return health


def measure_health(data: Path, manifest: Manifest) -> dict[str, Any]:
    """The content of `health.json`: plain data, the same for the same shards."""
    facts = _read(data, manifest)
    same, alike = _same_files(facts), _look_alikes(facts)
    pairs = [*_judge(facts, same, "same file"), *_judge(facts, alike, "look alike")]
    faults = Counter((pair_kind, fault) for pair_kind, fault, _, _ in pairs)
    shown = sorted(pairs, key=lambda pair: (-len(pair[1]), pair[0] != "same file", pair[2], pair[3]))[:PAIRS_SHOWN]
    sides = np.minimum(facts.table["width"].to_numpy(), facts.table["height"].to_numpy())
    longer = np.maximum(facts.table["width"].to_numpy(), facts.table["height"].to_numpy())
    return {
        "images": facts.table.num_rows,
        "classes": _balance(facts, manifest),
        "short_side": _quantiles(sides),
        "aspect": _quantiles(longer / np.maximum(sides, 1)),
        "kinds": dict(Counter(facts.table["kind"].to_pylist()).most_common()),
        "misnamed": _misnamed(facts),
        "same_file": {"pairs": len(same), **_fault_counts(faults, "same file")},
        "look_alike": {"pairs": len(alike), "compared": facts.table.num_rows <= NEAR_IMAGES_MAX, **_fault_counts(faults, "look alike")},
        "pairs": [asdict(Pair(kind, fault, _sample(facts, manifest, a), _sample(facts, manifest, b))) for kind, fault, a, b in shown],
    }


def _read(data: Path, manifest: Manifest) -> _Facts:
    tables = [read_facts(data / SHARDS / shard.name) for shard in manifest.shards]
    table = pa.concat_tables(tables).combine_chunks()
    splits = np.concatenate([np.full(shard.rows, SPLITS.index(shard.split), np.int8) for shard in manifest.shards])
    files = np.array([int(digest[:16], 16) for digest in table["sha256"].to_pylist()], np.uint64)
    looks = np.frombuffer(b"".join(table["look"].to_pylist()), np.uint8).reshape(table.num_rows, -1)
    return _Facts(table, splits, table["label"].to_numpy(), files, looks[:, :HASH_BYTES], looks[:, HASH_BYTES:])


def _balance(facts: _Facts, manifest: Manifest) -> dict[str, dict[str, int]]:
    """Images of each class in each split that has any."""
    counts = np.zeros((len(manifest.classes), len(SPLITS)), np.int64)
    np.add.at(counts, (facts.labels, facts.splits), 1)
    used = [place for place in range(len(SPLITS)) if counts[:, place].any()]
    return {name: {SPLITS[place]: int(counts[label, place]) for place in used} for label, name in enumerate(manifest.classes)}


def _quantiles(values: NDArray[Any]) -> list[float]:
    """Smallest, 5 %, median, 95 %, largest."""
    return [round(float(value), 3) for value in np.quantile(values, QUANTILES)]


def _misnamed(facts: _Facts) -> int:
    """Images whose extension names another format than they are in."""
    named = (FORMATS.get(path.rpartition(".")[2].lower(), "") for path in facts.table["path"].to_pylist())
    return sum(form not in ("", kind.split(" ")[0]) for form, kind in zip(named, facts.table["kind"].to_pylist(), strict=True))


Indices = list[tuple[int, int]]
"""Pairs of rows."""


def _same_files(facts: _Facts) -> Indices:
    """Each image with the first one of the same content."""
    order = np.lexsort((np.arange(len(facts.files)), facts.files))
    ordered = facts.files[order]
    first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    of_group = first[np.cumsum(np.r_[True, ordered[1:] != ordered[:-1]]) - 1]
    others = np.flatnonzero(of_group != np.arange(len(order)))
    return [(int(order[of_group[place]]), int(order[place])) for place in others]


def _look_alikes(facts: _Facts) -> Indices:
    """Pairs of different files whose hashes are close."""
    ones = np.bitwise_count(facts.looks).sum(axis=1, dtype=np.int64)
    bits = facts.looks.shape[1] * 8
    rows = np.flatnonzero((ones >= PLAIN_BITS) & (ones <= bits - PLAIN_BITS))
    if len(rows) > NEAR_IMAGES_MAX or len(rows) < 2:  # noqa: PLR2004 -- a pair
        return []
    looks = facts.looks[rows]
    words = np.ascontiguousarray(looks).view(">u8")
    found: set[tuple[int, int]] = set()
    for place in range(0, looks.shape[1], 2):
        key = looks[:, place].astype(np.uint16) << 8 | looks[:, place + 1]
        order = np.lexsort((*words.T[::-1], key))
        for step in range(1, min(NEIGHBOURS, len(order) - 1) + 1):
            a, b = order[:-step], order[step:]
            near = np.flatnonzero(key[a] == key[b])
            distance = np.bitwise_count(looks[a[near]] ^ looks[b[near]]).sum(axis=1, dtype=np.int64)
            close = near[distance <= NEAR_BITS]
            first, second = rows[a[close]], rows[b[close]]
            alike = _correlation(facts.copies[first], facts.copies[second]) >= ALIKE
            found.update(zip(first[alike].tolist(), second[alike].tolist(), strict=True))
    return sorted({(min(pair), max(pair)) for pair in found if facts.files[pair[0]] != facts.files[pair[1]]})


def _correlation(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Pearson's, row by row; 0 where a copy is of one grey."""
    a, b = (copies - copies.mean(axis=1, keepdims=True) for copies in (first.astype(np.float64), second.astype(np.float64)))
    scale = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    correlation: NDArray[np.float64] = np.divide((a * b).sum(axis=1), scale, out=np.zeros(len(a)), where=scale > 0)
    return correlation


def _judge(facts: _Facts, pairs: Indices, kind: str) -> list[tuple[str, str, int, int]]:
    """Each pair with what is wrong about it."""
    judged = []
    for a, b in pairs:
        leak = "leak" if facts.splits[a] != facts.splits[b] else ""
        label = "label" if facts.labels[a] != facts.labels[b] else ""
        judged.append((kind, " and ".join(fault for fault in (leak, label) if fault), a, b))
    return judged


def _fault_counts(faults: Counter[tuple[str, str]], kind: str) -> dict[str, int]:
    both = faults[kind, "leak and label"]
    return {"leaks": faults[kind, "leak"] + both, "label_conflicts": faults[kind, "label"] + both}


def _sample(facts: _Facts, manifest: Manifest, row: int) -> Sample:
    one = facts.table.slice(row, 1).to_pylist()[0]
    starts = np.cumsum([0, *(shard.rows for shard in manifest.shards)])
    place = int(np.searchsorted(starts, row, "right")) - 1
    split, name = SPLITS[facts.splits[row]], manifest.classes[one["label"]]
    return Sample(one["id"], one["path"], split, name, manifest.shards[place].name, row - int(starts[place]))
