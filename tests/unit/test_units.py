"""Numbers as people read them."""

from __future__ import annotations

import pytest

from orchestrator.units import format_bytes, format_count, format_duration


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (64 * 2**20, "64.0 MiB"),
        (3 * 2**30, "3.0 GiB"),
        (5 * 2**40, "5.0 TiB"),
        (2**53, "8192.0 TiB"),
    ],
)
def test_bytes_are_written_in_the_largest_unit_that_fits(size_bytes: int, text: str) -> None:
    """Powers of 1024 with one decimal, bytes without."""
    assert format_bytes(size_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (7.26, "7.3 s"),
        (59.9, "59.9 s"),
        (60, "1 min 00 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 00 min"),
        (3725, "1 h 02 min"),
        (90_000, "25 h 00 min"),
    ],
)
def test_durations_are_written_in_at_most_two_units(seconds: float, text: str) -> None:
    """Rounding to the minute carries over into the hour."""
    assert format_duration(seconds) == text


def test_counts_agree_with_their_noun() -> None:
    """One image, many images, and nouns with a plural of their own."""
    assert format_count(70_000, "image") == "70,000 images"
    assert format_count(1, "image") == "1 image"
    assert format_count(0, "class", "classes") == "0 classes"
