"""Which images are shown, of many."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
from hypothesis import given

from orchestrator.stages.preview import taking_turns


@given(st.lists(st.integers(0, 5), max_size=60), st.integers(0, 2**32 - 1))
def test_every_beginning_has_as_many_classes_as_possible(labels: list[int], seed: int) -> None:
    """However few are taken, no class has two more than another one that has some left; every image is there once."""
    ids = np.random.default_rng(seed).integers(0, 256, (len(labels), 16), np.uint8)
    order = taking_turns(np.array(labels, np.int64), ids)
    assert sorted(order.tolist()) == list(range(len(labels)))
    totals = np.bincount(labels, minlength=6)
    for count in range(len(labels) + 1):
        taken = np.bincount(np.array(labels, np.int64)[order[:count]], minlength=6)
        assert taken.max(initial=0) <= taken[taken < totals].min(initial=60) + 1


def test_the_choice_depends_on_the_ids_and_not_on_the_order_of_the_listing() -> None:
    """The same images are shown, in the same order."""
    rng = np.random.default_rng(3)
    ids, labels = rng.integers(0, 256, (500, 16), np.uint8), rng.integers(0, 20, 500)
    mixed = rng.permutation(500)
    assert np.array_equal(ids[taking_turns(labels, ids)], ids[mixed][taking_turns(labels[mixed], ids[mixed])])
