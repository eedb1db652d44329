"""The order of an epoch is a pure function, and every row comes once."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.dataset.order import EpochOrder, EvaluationOrder

UNIT_ROWS = st.lists(st.integers(1, 40), min_size=1, max_size=12).map(tuple)


def places(order: EpochOrder, start: int, stop: int) -> list[tuple[int, int]]:
    units, rows = order.rows(start, stop)
    return list(zip(units.tolist(), rows.tolist(), strict=True))


@settings(max_examples=80, deadline=None)
@given(UNIT_ROWS, st.integers(0, 5), st.integers(0, 5), st.integers(1, 5))
def test_every_row_once_an_epoch(unit_rows: tuple[int, ...], seed: int, epoch: int, window: int) -> None:
    """An epoch is a permutation of all rows, and the windows cover it."""
    order = EpochOrder(unit_rows, seed, epoch, window)
    total = sum(unit_rows)
    everything = {(unit, row) for unit, rows in enumerate(unit_rows) for row in range(rows)}
    assert len(places(order, 0, total)) == total
    assert set(places(order, 0, total)) == everything
    bounds = order.window_bounds()
    assert bounds[0] == 0
    assert bounds[-1] == total
    assert (np.diff(bounds) > 0).all()


@settings(max_examples=80, deadline=None)
@given(UNIT_ROWS, st.integers(1, 4), st.data())
def test_any_stretch_is_a_slice_of_the_whole(unit_rows: tuple[int, ...], window: int, data: st.DataObject) -> None:
    """Reading from a position needs no other state: the stretch equals that part of the whole epoch."""
    total = sum(unit_rows)
    start = data.draw(st.integers(0, total))
    stop = data.draw(st.integers(start, total))
    order = EpochOrder(unit_rows, 1, 2, window)
    assert places(order, start, stop) == places(order, 0, total)[start:stop]


def test_epochs_and_seeds_differ() -> None:
    """Another epoch and another seed give another order; the same give the same."""
    orders = [tuple(places(EpochOrder((50, 50, 50), seed, epoch, 2), 0, 150)) for seed in (0, 1) for epoch in (0, 1)]
    assert len(set(orders)) == 4
    assert orders[0] == tuple(places(EpochOrder((50, 50, 50), 0, 0, 2), 0, 150))


@settings(max_examples=50, deadline=None)
@given(UNIT_ROWS, st.integers(1, 50))
def test_evaluation_takes_every_row_once_in_order(unit_rows: tuple[int, ...], batch_rows: int) -> None:
    """Batches one after the other are all rows, unit after unit; only the last one is smaller."""
    order = EvaluationOrder(unit_rows, batch_rows)
    batches = [order.rows(number) for number in range(order.batches)]
    found = [place for units, rows in batches for place in zip(units.tolist(), rows.tolist(), strict=True)]
    assert found == [(unit, row) for unit, rows in enumerate(unit_rows) for row in range(rows)]
    assert all(len(rows) == batch_rows for _, rows in batches[:-1])
