"""Which units one task of prepare takes, one after the other."""

from __future__ import annotations

from collections.abc import Sequence

GROUP_MAX = 16
"""Units of the longest task: what a lost worker had not written down yet is prepared again, one unit at most."""


def group_units(rows: Sequence[int], parallel: int) -> list[list[int]]:
    """Long tasks first, because each start of one costs time, and single units last, so that all workers end together.

    Every group takes half of an equal share of what is left. Method: guided self-scheduling (Polychronopoulos and Kuck 1987,
    IEEE Transactions on Computers C-36).

    Args:
        rows: Images in each unit.
        parallel: Tasks at once.

    Returns:
        Places in `rows`, the largest units first; each place once.
    """
    order = sorted(range(len(rows)), key=lambda place: -rows[place])
    groups: list[list[int]] = []
    start = 0
    while start < len(order):
        size = max(1, min(GROUP_MAX, (len(order) - start) // (2 * parallel)))
        groups.append(order[start : start + size])
        start += size
    return groups
