"""What holds for every transform, whatever the image, the parameters and the randomness."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.images.augment import augment, augmentation_rng
from orchestrator.images.colour import Autocontrast, Brightness, Contrast, Equalise, Grey, Hue, Posterise, Saturation, Solarise
from orchestrator.images.detail import Blur, Erasing, Jpeg, Noise, Sharpness
from orchestrator.images.geometry import Affine, HorizontalFlip, RandomCrop, RandomResizedCrop, VerticalFlip
from orchestrator.images.policies import RandAugment, TrivialAugment
from orchestrator.images.step import Step


def ranges(low: float, high: float) -> st.SearchStrategy[tuple[float, float]]:
    return st.tuples(st.floats(low, high), st.floats(low, high)).map(lambda pair: (min(pair), max(pair)))


ALWAYS = st.just(1.0)
AMOUNTS = st.floats(0.0, 1.0)
RATIOS = ranges(0.1, 10.0)
SHARES = ranges(0.01, 1.0)
STEPS: st.SearchStrategy[Step] = st.one_of(
    st.builds(HorizontalFlip, ALWAYS),
    st.builds(VerticalFlip, ALWAYS),
    st.builds(RandomCrop, st.integers(1, 256)),
    st.builds(RandomResizedCrop, SHARES, RATIOS),
    st.builds(Affine, ALWAYS, st.floats(0, 180), AMOUNTS, ranges(0.1, 10.0), st.floats(0, 60), st.sampled_from(["reflect", "black"])),
    st.builds(Brightness, ALWAYS, AMOUNTS),
    st.builds(Contrast, ALWAYS, AMOUNTS),
    st.builds(Saturation, ALWAYS, AMOUNTS),
    st.builds(Hue, ALWAYS, st.floats(0, 0.5)),
    st.builds(Grey, ALWAYS),
    st.builds(Solarise, ALWAYS, st.integers(0, 255)),
    st.builds(Posterise, ALWAYS, st.integers(1, 8)),
    st.builds(Equalise, ALWAYS),
    st.builds(Autocontrast, ALWAYS),
    st.builds(Sharpness, ALWAYS, AMOUNTS),
    st.builds(Blur, ALWAYS, ranges(0.1, 10.0)),
    st.builds(Noise, ALWAYS, ranges(0.0, 255.0)),
    st.builds(Jpeg, ALWAYS, st.tuples(st.integers(1, 50), st.integers(50, 100))),
    st.builds(Erasing, ALWAYS, SHARES, RATIOS),
    st.builds(RandAugment, st.integers(1, 4), st.integers(0, 30)),
    st.builds(TrivialAugment),
)
SIDES = st.integers(1, 40)


@settings(max_examples=600, deadline=None)
@given(STEPS, SIDES, SIDES, st.sampled_from([1, 3]), st.integers(0, 2**32))
def test_a_transform_is_a_pure_function_of_image_and_randomness(step: Step, height: int, width: int, channels: int, seed: int) -> None:
    """Shape and type stay, the image that is given stays as it is, and the same randomness gives the same result."""
    image = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    kept = image.copy()
    image.flags.writeable = False
    changed = step.apply(image, augmentation_rng(seed, 0, b"x"))
    assert (changed.shape, changed.dtype) == (image.shape, np.uint8)
    np.testing.assert_array_equal(image, kept)
    np.testing.assert_array_equal(step.apply(image, augmentation_rng(seed, 0, b"x")), changed)


@settings(max_examples=200, deadline=None)
@given(st.lists(STEPS, min_size=2, max_size=4), SIDES, SIDES, st.sampled_from([1, 3]), st.integers(0, 2**32))
def test_any_transforms_follow_one_another(steps: list[Step], height: int, width: int, channels: int, seed: int) -> None:
    """Each takes what the one before it made, however that lies in memory."""
    image = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    by_hand, rng = image, augmentation_rng(seed, 1, b"x")
    for step in steps:
        by_hand = step.apply(np.ascontiguousarray(by_hand), rng)
    np.testing.assert_array_equal(augment(image, steps, augmentation_rng(seed, 1, b"x")), by_hand)


@settings(max_examples=50, deadline=None)
@given(st.sampled_from([HorizontalFlip(1.0), VerticalFlip(1.0), Solarise(1.0, 0)]), SIDES, SIDES, st.sampled_from([1, 3]))
def test_mirroring_and_inverting_twice_gives_the_image_back(step: Step, height: int, width: int, channels: int) -> None:
    """Exactly."""
    image = np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)
    np.testing.assert_array_equal(augment(image, (step, step), np.random.default_rng(0)), image)
