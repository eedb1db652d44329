"""Transforms that change values, against formulas in numpy."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest

from orchestrator.images.augment import augmentation_rng
from orchestrator.images.colour import (
    Brightness,
    Hue,
    autocontrast,
    brighten,
    equalise,
    grey,
    posterise,
    rotate_hue,
    saturate,
    solarise,
    stretch,
)
from orchestrator.images.step import Image

FACTORS = [0.0, 0.3, 1.0, 1.7, 2.0]
WEIGHTS = np.array([0.299, 0.587, 0.114])


@pytest.fixture(params=[1, 3])
def image(request: pytest.FixtureRequest) -> Image:
    """Grey and colour; not all levels occur."""
    return np.random.default_rng(6).integers(30, 240, (17, 23, request.param), dtype=np.uint8)


@pytest.fixture
def colourful() -> Image:
    return np.random.default_rng(7).integers(0, 256, (17, 23, 3), dtype=np.uint8)


def rounded(values: np.ndarray) -> Image:
    return np.rint(values).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("factor", FACTORS)
def test_brightness_multiplies(image: Image, factor: float) -> None:
    """Every value times the factor, rounded and clipped, exactly."""
    np.testing.assert_array_equal(brighten(image, factor), rounded(image * factor))


@pytest.mark.parametrize("factor", FACTORS)
def test_contrast_moves_values_from_the_mean(image: Image, factor: float) -> None:
    """The mean is that of the grey image; values agree within one level."""
    mean = (image @ WEIGHTS if image.shape[2] == 3 else image).mean()
    np.testing.assert_allclose(stretch(image, factor).astype(int), rounded(mean + (image - mean) * factor), atol=1)


@pytest.mark.parametrize("factor", FACTORS)
def test_saturation_moves_pixels_from_their_grey(colourful: Image, factor: float) -> None:
    """Values agree within one level."""
    own = (colourful @ WEIGHTS)[..., None]
    np.testing.assert_allclose(saturate(colourful, factor).astype(int), rounded(own + (colourful - own) * factor), atol=1)


@pytest.mark.parametrize("turn", [-0.5, -0.1, 0.0, 0.05, 1 / 3, 0.5])
def test_hue_turns_in_the_circle_of_colours(colourful: Image, turn: float) -> None:
    """As colorsys does it; 256 hues and saturations are told apart, which costs at most nine levels and two on average."""
    expected = np.empty(colourful.shape)
    for place in np.ndindex(colourful.shape[:2]):
        hue, saturation, value = colorsys.rgb_to_hsv(*(colourful[place] / 255))
        expected[place] = colorsys.hsv_to_rgb((hue + turn) % 1.0, saturation, value)
    difference = np.abs(rotate_hue(colourful, turn) - expected * 255)
    assert difference.max() <= 9
    assert difference.mean() < 2


def test_grey_is_the_weighted_mean(colourful: Image) -> None:
    """All three channels hold it, within one level."""
    np.testing.assert_allclose(grey(colourful).astype(int), np.repeat(rounded(colourful @ WEIGHTS)[..., None], 3, axis=2), atol=1)


@pytest.mark.parametrize("threshold", [0, 100, 128, 255])
def test_solarise_inverts_bright_values(image: Image, threshold: int) -> None:
    """From the threshold on, exactly."""
    np.testing.assert_array_equal(solarise(image, threshold), np.where(image >= threshold, 255 - image, image))


@pytest.mark.parametrize("bits", range(1, 9))
def test_posterise_keeps_the_upper_bits(image: Image, bits: int) -> None:
    """Values become multiples of 2 to the bits that are dropped, exactly."""
    np.testing.assert_array_equal(posterise(image, bits), image // 2 ** (8 - bits) * 2 ** (8 - bits))


def test_equalise_makes_the_histogram_even(image: Image) -> None:
    """Each level becomes the share of the pixels up to it, stretched from 0 to 255, exactly, channel by channel."""
    equalised = equalise(image)
    for channel in range(image.shape[2]):
        values = image[..., channel]
        below = np.cumsum(np.bincount(values.ravel(), minlength=256))
        lowest = below[values.min()]
        np.testing.assert_array_equal(equalised[..., channel], rounded((below - lowest) * 255 / (values.size - lowest))[values])


def test_autocontrast_stretches_every_channel(image: Image) -> None:
    """The least value becomes 0, the greatest 255, the others in proportion, exactly."""
    low, high = image.min(axis=(0, 1)).astype(float), image.max(axis=(0, 1)).astype(float)
    np.testing.assert_array_equal(autocontrast(image), rounded((image - low) * 255 / (high - low)))


@pytest.mark.parametrize("value", [0, 77, 255])
def test_a_channel_of_one_value_has_nothing_to_stretch(value: int) -> None:
    """Autocontrast, equalise and contrast leave an image of one value as it is."""
    flat = np.full((6, 5, 3), value, np.uint8)
    for changed in (autocontrast(flat), equalise(flat), stretch(flat, 1.5)):
        np.testing.assert_array_equal(changed, flat)


@pytest.mark.parametrize("change", [grey, lambda image: saturate(image, 0.2), lambda image: rotate_hue(image, 0.3)])
def test_colour_operations_leave_grey_images(change: object) -> None:
    """With one channel they return the image itself; with three equal ones, its pixels."""
    assert callable(change)
    image = np.random.default_rng(8).integers(0, 256, (9, 9, 1), dtype=np.uint8)
    assert change(image) is image
    np.testing.assert_array_equal(change(np.repeat(image, 3, axis=2)), np.repeat(image, 3, axis=2))


def test_done_twice_is_done_once(image: Image) -> None:
    """Grey, posterise and autocontrast exactly, solarise where inverted values are dark; equalise within two levels."""
    for change in (grey, autocontrast, lambda once: posterise(once, 3), lambda once: solarise(once, 128)):
        np.testing.assert_array_equal(change(change(image)), change(image))
    np.testing.assert_allclose(equalise(equalise(image)).astype(int), equalise(image), atol=2)


def test_inverting_twice_gives_the_image_back(image: Image) -> None:
    """Solarise from 0 on inverts everything; a higher threshold does not undo itself, because inverted values lie below it."""
    np.testing.assert_array_equal(solarise(solarise(image, 0), 0), image)


def test_factors_are_spread_around_one() -> None:
    """Between 1 - amount and 1 + amount, on average 1."""
    image = np.full((1, 1, 1), 100, np.uint8)
    values = [int(Brightness(1.0, 0.5).apply(image, augmentation_rng(0, epoch, b"x"))[0, 0, 0]) for epoch in range(2000)]
    assert 50 <= min(values) < 52
    assert 148 < max(values) <= 150
    assert abs(np.mean(values) - 100) < 2


def test_hues_turn_both_ways() -> None:
    """Red becomes yellowish as often as it becomes pink, and nothing else with a small amount."""
    red = np.full((1, 1, 3), (255, 0, 0), np.uint8)
    turned = np.array([Hue(1.0, 0.1).apply(red, augmentation_rng(0, epoch, b"x"))[0, 0] for epoch in range(1000)])
    assert (turned[:, 0] == 255).all()
    assert 400 < (turned[:, 1] > 0).sum() < 600
    assert not ((turned[:, 1] > 0) & (turned[:, 2] > 0)).any()
    assert turned[:, 1:].max() == pytest.approx(0.6 * 255, abs=6)
