"""Numbers with units, as people read them."""

from __future__ import annotations


def format_bytes(size_bytes: float) -> str:
    """``format_bytes(64 * 2**20)`` is ``"64.0 MiB"``."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def format_duration(seconds: float) -> str:
    """``format_duration(3725)`` is ``"1 h 02 min"``; below a minute one decimal is kept."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def format_count(count: int, noun: str, plural: str = "") -> str:
    """``format_count(70000, "image")`` is ``"70,000 images"``."""
    word = noun if count == 1 else plural or f"{noun}s"
    return f"{count:,} {word}"
