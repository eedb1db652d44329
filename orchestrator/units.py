"""Numbers with units, as people read them."""

from __future__ import annotations

KIBI = 1024
MINUTE_S = 60
HOUR_MIN = 60


def format_bytes(size_bytes: float) -> str:
    """`format_bytes(64 * 2**20)` is `"64.0 MiB"`."""
    size = float(size_bytes)
    if round(size) < KIBI:
        return f"{size:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        size /= KIBI
        if round(size, 1) < KIBI:
            return f"{size:.1f} {unit}"
    return f"{size / KIBI:.1f} TiB"


def format_duration(seconds: float) -> str:
    """`format_duration(3725)` is `"1 h 02 min"`; below a minute one decimal is kept."""
    if round(seconds, 1) < MINUTE_S:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), MINUTE_S)
    if minutes < HOUR_MIN:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, HOUR_MIN)
    return f"{hours} h {minutes:02d} min"


def format_count(count: int, noun: str, plural: str = "") -> str:
    """`format_count(70000, "image")` is `"70,000 images"`."""
    word = noun if count == 1 else plural or f"{noun}s"
    return f"{count:,} {word}"
