"""Units are shared out among tasks: each once, long tasks first, single units last."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.plan.groups import GROUP_MAX, group_units


@given(st.lists(st.integers(1, 4096), max_size=300), st.integers(1, 64))
def test_every_unit_is_in_one_group(rows: list[int], parallel: int) -> None:
    """Whatever there is, and however many work on it; no group is longer than the one before it."""
    groups = group_units(rows, parallel)
    assert sorted(place for group in groups for place in group) == list(range(len(rows)))
    sizes = [len(group) for group in groups]
    assert sizes == sorted(sizes, reverse=True)
    assert max(sizes, default=0) <= GROUP_MAX


def test_the_last_groups_are_single_small_units() -> None:
    """Nobody begins a long task when the others are about to end."""
    groups = group_units([445] * 12 + [155, 350], 2)
    assert groups[0] == [0, 1, 2]
    assert groups[-2:] == [[13], [12]]
    assert [len(group) for group in groups] == [3, 2, 2, 1, 1, 1, 1, 1, 1, 1]
