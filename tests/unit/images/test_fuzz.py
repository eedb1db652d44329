"""A slice of `make fuzz`: damaged images of every format always get a result."""

from __future__ import annotations

import numpy as np
from fuzz import GROWTH_BYTES_MAX, fuzz, render, seeds
from mutations import mutate
from verdict_cases import WORK

from orchestrator.images.picture import StoredPicture, prepare_picture


def test_damaged_images_always_get_a_result() -> None:
    """Thousands of them: one result each, no crash, no time-out, no growth."""
    found = fuzz(images=12_000, seconds=60, seed=20261125)
    assert found.images == sum(found.verdicts.values()) == 12_000
    assert found.faults == []
    assert found.growth_bytes < GROWTH_BYTES_MAX
    assert {"taken", "corrupt", "truncated", "too_large"} <= set(found.verdicts)
    assert f"| taken | {found.verdicts['taken']:,} |" in render(found)


def test_the_same_seed_damages_in_the_same_way() -> None:
    """What a run printed can be run again."""
    first, second = (np.random.default_rng(7) for _ in range(2))
    assert [mutate(seeds(), first) for _ in range(50)] == [mutate(seeds(), second) for _ in range(50)]


def test_the_seeds_are_good_images() -> None:
    """Most of them are taken, so that damage is what is tested; the animated one is there for its chunks."""
    results = [prepare_picture(image, WORK) for image in seeds()]
    assert sum(not isinstance(result, StoredPicture) for result in results) == 1
