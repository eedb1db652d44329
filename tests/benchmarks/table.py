"""What every benchmark shares: measuring in turns, medians, the table, and the file for other programs."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any

from orchestrator import __version__
from orchestrator.durable import write_json

PACKAGES = ("ray", "torch", "opencv-python-headless", "numpy", "pyarrow")


@dataclass(frozen=True)
class Measure:
    """One thing, measured once."""

    seconds: float
    facts: Mapping[str, float] = field(default_factory=dict)
    """What else was measured, by names that end in their unit."""


Rounds = Sequence[Mapping[str, Measure]]
"""In each round everything was measured once, one after the other."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    ratio: float
    """The median of the rounds."""
    low: float
    high: float
    facts: Mapping[str, float]
    """What explains the ratio, by names that end in their unit."""


def interleave(repeats: int, measures: Mapping[str, Callable[[], Measure]]) -> Rounds:
    """A, B, A, B, ...: what the machine does besides, and how warm it is, then touches all of them alike."""
    return [{name: measure() for name, measure in measures.items()} for _ in range(repeats)]


def speed_ratios(rounds: Rounds, ours: str, theirs: str) -> list[float]:
    """How fast `ours` was for each round; 1 is as fast as `theirs` in the same round."""
    return [measured[theirs].seconds / measured[ours].seconds for measured in rounds]


def fact_ratios(rounds: Rounds, fact: str, ours: str, theirs: str) -> list[float]:
    return [measured[ours].facts[fact] / measured[theirs].facts[fact] for measured in rounds]


def median_seconds(rounds: Rounds, name: str) -> float:
    return statistics.median(measured[name].seconds for measured in rounds)


def median_fact(rounds: Rounds, name: str, fact: str) -> float:
    return statistics.median(measured[name].facts[fact] for measured in rounds)


def row_of(name: str, ratios: Sequence[float], facts: Mapping[str, float]) -> Row:
    return Row(name, statistics.median(ratios), min(ratios), max(ratios), {"repeats": len(ratios), **facts})


def publish(name: str, rows: Sequence[Row], folder: Path) -> None:
    """Print the table, and write `NAME.json` into `folder`.

    Raises:
        StorageError: The storage is full or does not take the file.
    """
    date, where, tools = time.strftime("%Y-%m-%d %H:%M %z"), machine(), versions()
    write_json(folder / f"{name}.json", {"date": date, "machine": where, "versions": tools, "rows": [_plain(row) for row in rows]})
    origin = [date, *(f"{what} {value}" for what, value in (where | tools).items())]
    sys.stdout.write(f"{name}: {', '.join(origin)}\n\n{to_markdown(rows)}")


def to_markdown(rows: Sequence[Row]) -> str:
    lines = ["| what | ratio | low | high | facts |", "|---|---|---|---|---|"]
    for row in rows:
        facts = ", ".join(f"{name} {_number(value)}" for name, value in row.facts.items())
        lines.append(f"| {row.name} | {row.ratio:.2f} | {row.low:.2f} | {row.high:.2f} | {facts} |")
    return "\n".join(lines) + "\n"


def machine() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unknown")
    import torch  # what is measured in a process of its own takes less memory without it

    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return {"cpu": model, "cores": len(os.sched_getaffinity(0))} | ({"gpu": ", ".join(gpus), "cuda": torch.version.cuda} if gpus else {})


def versions() -> dict[str, str]:
    return {"python": python_version(), "orchestrator": __version__} | {package: version(package) for package in PACKAGES}


def _plain(row: Row) -> dict[str, Any]:
    return {"name": row.name, "ratio": round(row.ratio, 4), "low": round(row.low, 4), "high": round(row.high, 4)} | {
        name: round(value, 4) for name, value in row.facts.items()
    }


def _number(value: float) -> str:
    """Three digits are enough to read; `1,234` rather than `1.23e+03`."""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
