"""RandAugment and TrivialAugment: which transforms, how strong, how often."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from orchestrator.images.augment import augmentation_rng
from orchestrator.images.colour import autocontrast, equalise
from orchestrator.images.policies import RAND_SPACE, WIDE_SPACE, Operation, RandAugment, TrivialAugment
from orchestrator.images.step import Image

IDENTITY, SHEAR_X, SHEAR_Y, SHIFT_X, SHIFT_Y, ROTATE, BRIGHTNESS, COLOUR, CONTRAST, SHARPNESS, POSTERISE, SOLARISE, AUTO, EQUALISE = range(
    14
)
LUMA = np.array([0.299, 0.587, 0.114])


@pytest.fixture
def image() -> Image:
    """Values far enough from 0 and 255 that nothing is cut at moderate factors."""
    return np.random.default_rng(10).integers(100, 130, (66, 62, 3), dtype=np.uint8)


def tell(image: Image, space: tuple[Operation, ...], number: int, magnitude: int, *, negative: bool = False) -> np.ndarray:
    return space[number].apply(image, magnitude, negative=negative).astype(float)


@pytest.mark.parametrize(("space", "strongest"), [(RAND_SPACE, 0.9), (WIDE_SPACE, 0.99)])
@pytest.mark.parametrize("magnitude", [0, 9, 20, 30])
@pytest.mark.parametrize("sign", [1, -1])
def test_factors_are_one_plus_the_magnitude(
    image: Image, space: tuple[Operation, ...], strongest: float, magnitude: int, sign: int
) -> None:
    """Brightness, colour and contrast blend with black, the own grey and the mean grey by 1 ± magnitude / 30 of the strongest change."""
    factor = 1 + sign * strongest * magnitude / 30
    own = (image @ LUMA)[..., None]
    for number, base in ((BRIGHTNESS, 0.0), (COLOUR, own), (CONTRAST, own.mean())):
        expected = (base + (image - base) * factor).clip(0, 255)
        np.testing.assert_allclose(tell(image, space, number, magnitude, negative=sign < 0), expected, atol=1.01)


@pytest.mark.parametrize(("space", "bits"), [(RAND_SPACE, {0: 8, 9: 7, 15: 6, 20: 5, 30: 4}), (WIDE_SPACE, {0: 8, 5: 7, 15: 5, 30: 2})])
def test_posterise_and_solarise_have_no_sign(image: Image, space: tuple[Operation, ...], bits: dict[int, int]) -> None:
    """Bits and thresholds are those of torchvision's tables, whatever the sign."""
    for magnitude, kept in bits.items():
        threshold = 255 - 255 * magnitude / 30
        for negative in (False, True):
            posterised = tell(image, space, POSTERISE, magnitude, negative=negative)
            np.testing.assert_array_equal(posterised, image >> (8 - kept) << (8 - kept))
            solarised = tell(image, space, SOLARISE, magnitude, negative=negative)
            np.testing.assert_array_equal(solarised, np.where(image >= threshold, 255 - image, image))


@pytest.mark.parametrize(("space", "shifts"), [(RAND_SPACE, {9: (8, 8), 30: (28, 29)}), (WIDE_SPACE, {9: (9, 9), 30: (32, 32)})])
def test_translations_are_whole_pixels(image: Image, space: tuple[Operation, ...], shifts: dict[int, tuple[int, int]]) -> None:
    """RandAugment's are up to 150/331 of the side, TrivialAugment's up to 32 pixels; what moves away leaves black."""
    for magnitude, (right, down) in shifts.items():
        for negative in (False, True):
            across, along = (
                tell(image, space, SHIFT_X, magnitude, negative=negative),
                tell(image, space, SHIFT_Y, magnitude, negative=negative),
            )
            expected = np.zeros_like(image), np.zeros_like(image)
            if negative:
                expected[0][:, :-right], expected[1][:-down] = image[:, right:], image[down:]
            else:
                expected[0][:, right:], expected[1][down:] = image[:, :-right], image[:-down]
            np.testing.assert_array_equal(across, expected[0])
            np.testing.assert_array_equal(along, expected[1])


@pytest.mark.parametrize(("space", "shear", "degrees"), [(RAND_SPACE, 0.3, 30.0), (WIDE_SPACE, 0.99, 135.0)])
def test_shears_and_turns_move_a_dot(space: tuple[Operation, ...], shear: float, degrees: float) -> None:
    """A dot beside the centre goes where the strongest shear or rotation sends it, and the other way with the sign."""
    image = np.zeros((81, 81, 1), np.uint8)
    image[24:27, 51:54] = 255  # twelve to the right of the centre and fifteen above it
    turn = np.radians(degrees)
    for sign in (1, -1):
        expected = {
            SHEAR_X: (12 - sign * shear * 15, -15),
            SHEAR_Y: (12, -15 + sign * shear * 12),
            ROTATE: (12 * np.cos(turn) + sign * 15 * np.sin(turn), sign * 12 * np.sin(turn) - 15 * np.cos(turn)),
        }
        for number, place in expected.items():
            moved = tell(image, space, number, 30, negative=sign < 0)[..., 0]
            rows, columns = np.indices(moved.shape)
            found = np.average(columns, weights=moved) - 40, np.average(rows, weights=moved) - 40
            assert found == pytest.approx(place, abs=0.2)


@pytest.mark.parametrize("space", [RAND_SPACE, WIDE_SPACE])
def test_without_strength_only_histograms_change(image: Image, space: tuple[Operation, ...]) -> None:
    """At magnitude 0 every operation leaves the image, but autocontrast and equalise, which have no strength."""
    for number in range(len(space)):
        expected = {AUTO: autocontrast, EQUALISE: equalise}.get(number, lambda same: same)(image)
        atol = 1 if number == COLOUR else 0
        np.testing.assert_allclose(tell(image, space, number, 0), expected, atol=atol)


def test_rand_augment_applies_its_operations_in_a_row(image: Image) -> None:
    """Any result of one operation occurs, about as often as any other, and two operations give results that one does not."""
    singles = {tell(image, RAND_SPACE, number, 20, negative=negative).tobytes() for number in range(14) for negative in (False, True)}
    once = [RandAugment(1, 20).apply(image, augmentation_rng(0, epoch, b"x")).astype(float).tobytes() for epoch in range(1000)]
    twice = {RandAugment(2, 20).apply(image, augmentation_rng(0, epoch, b"x")).astype(float).tobytes() for epoch in range(100)}
    assert set(once) == singles
    assert min(Counter(once).values()) > 1000 / 28 / 2
    assert len(twice - singles) > 50


def test_trivial_augment_applies_one_operation_of_any_magnitude(image: Image) -> None:
    """Its results are those of one operation of the wide space; all operations and magnitudes occur."""
    known = {
        tell(image, WIDE_SPACE, number, magnitude, negative=negative).tobytes(): (number, magnitude)
        for number in range(14)
        for magnitude in range(31)
        for negative in (False, True)
    }
    found = [known[TrivialAugment().apply(image, augmentation_rng(0, epoch, b"x")).astype(float).tobytes()] for epoch in range(2000)]
    assert len({magnitude for _, magnitude in found}) > 25
    assert {SHEAR_X, SHEAR_Y, SHIFT_X, SHIFT_Y, ROTATE, BRIGHTNESS, CONTRAST, AUTO, EQUALISE} <= {number for number, _ in found}
