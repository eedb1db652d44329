"""Transforms that move pixels, against numpy."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.images.augment import augmentation_rng
from orchestrator.images.geometry import (
    Affine,
    HorizontalFlip,
    RandomResizedCrop,
    VerticalFlip,
    Window,
    affine_matrix,
    central_window,
    draw_window,
    warp,
)
from orchestrator.images.step import Image


def picture(height: int, width: int, channels: int = 3) -> Image:
    return np.random.default_rng(5).integers(0, 256, (height, width, channels), dtype=np.uint8)


def interpolated(image: Image, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Bilinear values at the places (x, y), which lie inside the image or are moved to its edge."""
    height, width = image.shape[:2]
    x, y = x.clip(0, width - 1), y.clip(0, height - 1)
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    across, down = (x - left)[..., None], (y - top)[..., None]
    upper = image[top, left] * (1 - across) + image[top, right] * across
    lower = image[bottom, left] * (1 - across) + image[bottom, right] * across
    return upper * (1 - down) + lower * down


@pytest.mark.parametrize("channels", [1, 3])
def test_flips_mirror_every_pixel(channels: int) -> None:
    """Columns or rows in reverse order, exactly."""
    image, rng = picture(7, 12, channels), np.random.default_rng(0)
    np.testing.assert_array_equal(HorizontalFlip(1.0).apply(image, rng), image[:, ::-1])
    np.testing.assert_array_equal(VerticalFlip(1.0).apply(image, rng), image[::-1])


@pytest.mark.parametrize("channels", [1, 3])
def test_a_resized_crop_is_its_window_interpolated(channels: int) -> None:
    """Each output pixel lies at ((i + 1/2) * window / size - 1/2) in the window; values agree within one level."""
    image = picture(23, 40, channels)
    step = RandomResizedCrop(scale=(0.1, 0.9), ratio=(0.5, 2.0))
    for epoch in range(20):
        window = draw_window(23, 40, step.scale, step.ratio, augmentation_rng(0, epoch, b"x"))
        assert window is not None
        y, x = np.meshgrid((np.arange(23) + 0.5) * window.height / 23 - 0.5, (np.arange(40) + 0.5) * window.width / 40 - 0.5, indexing="ij")
        expected = interpolated(window.of(image), x, y)
        np.testing.assert_allclose(step.apply(image, augmentation_rng(0, epoch, b"x")).astype(float), expected, atol=1.0)


def test_windows_have_the_area_and_the_ratio_asked_for() -> None:
    """Areas are uniform in their range, logarithms of ratios in theirs, and windows lie anywhere in the image."""
    rng = np.random.default_rng(1)
    windows = [draw_window(500, 400, (0.1, 0.3), (0.5, 2.0), rng) for _ in range(2000)]
    found = [window for window in windows if window is not None]
    areas = np.array([window.height * window.width / 200_000 for window in found])
    ratios = np.log([window.width / window.height for window in found])
    assert len(found) == len(windows)
    assert 0.099 < areas.min() < 0.105
    assert 0.295 < areas.max() < 0.301
    assert abs(areas.mean() - 0.2) < 0.005
    assert abs(ratios.mean()) < 0.03
    assert np.abs(ratios).max() < np.log(2.0) + 0.02
    assert all(0 <= window.top <= 500 - window.height and 0 <= window.left <= 400 - window.width for window in found)
    assert min(window.top for window in found) == min(window.left for window in found) == 0


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (100, 400, Window(0, 133, 100, 133)),
        (400, 100, Window(133, 0, 133, 100)),
        (90, 100, Window(0, 0, 90, 100)),
        (1, 9, Window(0, 4, 1, 1)),
    ],
)
def test_where_no_window_fits_the_middle_is_taken(height: int, width: int, expected: Window) -> None:
    """The largest central window between 3:4 and 4:3, as in torchvision."""
    assert central_window(height, width, (3 / 4, 4 / 3)) == expected


@pytest.mark.parametrize("channels", [1, 3])
def test_a_warp_takes_each_pixel_from_where_it_was(channels: int) -> None:
    """Inside the image the values are those of the inverse map, interpolated; outside they are black."""
    y, x = np.meshgrid(np.arange(31.0), np.arange(45.0), indexing="ij")
    image = np.stack([128 + 60 * np.sin(x / 5 + shift) + 60 * np.cos(y / 6) for shift in range(channels)], axis=2).round().astype(np.uint8)
    matrix = affine_matrix(31, 45, degrees=25.0, shift=(3.5, -2.25), scale=1.2, shear=(0.2, -0.1))
    back = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    from_x, from_y = (back[row, 0] * x + back[row, 1] * y + back[row, 2] for row in (0, 1))
    inside = (from_x >= 0) & (from_x <= 44) & (from_y >= 0) & (from_y <= 30)
    outside = (from_x <= -1) | (from_x >= 45) | (from_y <= -1) | (from_y >= 31)
    warped = warp(image, matrix, "black")
    np.testing.assert_allclose(warped[inside].astype(float), interpolated(image, from_x, from_y)[inside], atol=1.5)
    assert (warped[outside] == 0).all()
    assert inside.sum() > 500
    assert outside.sum() > 50


def test_a_quarter_turn_is_exact() -> None:
    """Ninety degrees turn a square clockwise about its centre, pixel by pixel."""
    image = picture(9, 9)
    np.testing.assert_array_equal(warp(image, affine_matrix(9, 9, degrees=90.0), "black"), np.rot90(image, -1))


def test_shear_moves_rows_by_their_distance_from_the_centre() -> None:
    """With a shear of 1 each row moves one pixel farther than the one above it."""
    image = picture(5, 9)
    sheared = warp(image, affine_matrix(5, 9, shear=(1.0, 0.0)), "black")
    for row, moved in enumerate((-2, -1, 0, 1, 2)):
        expected = np.zeros_like(image[row])
        expected[max(moved, 0) : 9 + min(moved, 0)] = image[row, max(-moved, 0) : 9 - max(moved, 0)]
        np.testing.assert_array_equal(sheared[row], expected)


def test_what_moves_away_leaves_a_reflection() -> None:
    """A shift of whole pixels shows the reflected border, without repeating the edge."""
    image = picture(10, 12)
    shifted = warp(image, affine_matrix(10, 12, shift=(3.0, 2.0)), "reflect")
    np.testing.assert_array_equal(shifted, np.pad(image, ((2, 0), (3, 0), (0, 0)), mode="reflect")[:10, :12])


def test_an_affine_step_without_motion_is_the_identity() -> None:
    """All amounts 0 and a scale of 1 leave every pixel."""
    image = picture(13, 8)
    still = Affine(1.0, rotation=0.0, translation=0.0, scale=(1.0, 1.0), shear=0.0, border="reflect")
    np.testing.assert_array_equal(still.apply(image, np.random.default_rng(0)), image)


def test_an_affine_step_stays_within_its_bounds() -> None:
    """A bright dot in the middle moves at most the translation asked for, and about as far as that in some draws."""
    image = np.zeros((101, 101, 1), np.uint8)
    image[49:52, 49:52] = 255
    step = Affine(1.0, rotation=180.0, translation=0.2, scale=(0.9, 1.1), shear=10.0, border="black")
    moved = []
    for epoch in range(200):
        changed = step.apply(image, augmentation_rng(3, epoch, b"x"))[..., 0].astype(float)
        rows, columns = np.indices(changed.shape)
        moved.append([np.average(columns, weights=changed) - 50, np.average(rows, weights=changed) - 50])
    assert np.abs(moved).max(axis=0) == pytest.approx([20.2, 20.2], abs=1.0)
