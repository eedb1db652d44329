"""Sharpness, blur, noise, JPEG and erasing, against numpy."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest

from orchestrator.images.augment import augmentation_rng
from orchestrator.images.detail import Blur, Erasing, Jpeg, Noise, sharpen
from orchestrator.images.step import Image

# ITU-T T.81, table K.1
LUMINANCE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)


@pytest.fixture(params=[1, 3])
def image(request: pytest.FixtureRequest) -> Image:
    return np.random.default_rng(9).integers(0, 256, (31, 26, request.param), dtype=np.uint8)


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.0, 1.9])
def test_sharpness_moves_pixels_from_the_softened_image(image: Image, factor: float) -> None:
    """Softened by the kernel 1 1 1, 1 5 1, 1 1 1 inside; the outermost pixels stay. Within one level."""
    padded = np.pad(image.astype(float), ((1, 1), (1, 1), (0, 0)))
    around = sum(padded[1 + down : 32 + down, 1 + right : 27 + right] for down in (-1, 0, 1) for right in (-1, 0, 1))
    soft = (around + 4 * image.astype(float)) / 13
    expected = (soft + (image - soft) * factor).clip(0, 255)
    expected[[0, -1]], expected[:, [0, -1]] = image[[0, -1]], image[:, [0, -1]]
    np.testing.assert_allclose(sharpen(image, factor).astype(float), expected, atol=1)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.5])
def test_blur_is_a_gaussian_mean(image: Image, sigma: float) -> None:
    """Rows and columns weighted by exp(-d²/2sigma²) up to three sigma, over a reflected border.

    OpenCV weighs with eight bits, the same on every machine: within one and a half levels.
    """
    reach = int(np.rint(sigma * 6 + 1)) // 2
    weights = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    padded = np.pad(image.astype(float), ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    rows = sum(weight * padded[offset : offset + 31] for offset, weight in enumerate(weights))
    expected = sum(weight * rows[:, offset : offset + 26] for offset, weight in enumerate(weights))
    blurred = Blur(1.0, (sigma, sigma)).apply(image, np.random.default_rng(0))
    np.testing.assert_allclose(blurred.astype(float), expected, atol=1.5)


@pytest.mark.parametrize("std", [2.0, 20.0])
def test_noise_is_normal(std: float) -> None:
    """Mean, deviation, quantiles and kurtosis are those of a normal distribution; neighbours and channels are independent."""
    image = np.full((200, 200, 3), 128, np.uint8)
    noise = Noise(1.0, (std, std)).apply(image, augmentation_rng(0, 0, b"x")).astype(float) - 128
    assert abs(noise.mean()) < 0.01 * std
    assert noise.std() == pytest.approx(np.sqrt(std**2 + 1 / 12), rel=0.01)  # rounding adds a twelfth
    for share in (0.01, 0.1, 0.9, 0.99):
        assert np.quantile(noise, share) == pytest.approx(NormalDist(0, std).inv_cdf(share), abs=0.03 * std + 0.5)
    assert (noise**4).mean() / noise.var() ** 2 == pytest.approx(3.0, abs=0.1)
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(noise[:, :-1].ravel(), noise[:, 1:].ravel())[0, 1]) < 0.02


def test_noise_does_not_wrap_around() -> None:
    """Black and white stay near black and white."""
    for value in (0, 255):
        image = np.full((20, 20, 3), value, np.uint8)
        noisy = Noise(1.0, (10.0, 10.0)).apply(image, np.random.default_rng(0)).astype(int)
        assert np.abs(noisy - value).max() < 60


@pytest.mark.parametrize("quality", [10, 50, 90])
def test_jpeg_rounds_the_cosines_of_each_block(quality: int) -> None:
    """A grey block of 8 x 8 pixels: its cosine transform in multiples of the standard table. Within two levels."""
    y, x = np.indices((8, 8))
    block = (128 + 50 * np.sin(x) + 40 * np.cos(y * 1.3) + 20 * np.sin(x * y)).clip(0, 255).round().astype(np.uint8)
    cosines = np.sqrt(2 / 8) * np.cos((2 * x + 1) * y * np.pi / 16)
    cosines[0] /= np.sqrt(2)
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    table = ((LUMINANCE * percent + 50) // 100).clip(1, 255)
    kept = np.rint(cosines @ (block - 128.0) @ cosines.T / table) * table
    expected = (cosines.T @ kept @ cosines + 128).clip(0, 255)
    compressed = Jpeg(1.0, (quality, quality)).apply(block[..., None], np.random.default_rng(0))
    np.testing.assert_allclose(compressed[..., 0].astype(float), expected, atol=2)


def test_jpeg_keeps_red_red() -> None:
    """Channels come back in their order, a flat colour within four levels."""
    image = np.full((16, 16, 3), (200, 40, 90), np.uint8)
    np.testing.assert_allclose(Jpeg(1.0, (80, 80)).apply(image, np.random.default_rng(0)).astype(int), image, atol=4)


def test_jpeg_draws_every_quality_of_its_range() -> None:
    """Both ends occur, and worse quality loses more."""
    image = np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    results = {Jpeg(1.0, (60, 62)).apply(image, augmentation_rng(0, epoch, b"x")).tobytes() for epoch in range(60)}
    by_quality = {Jpeg(1.0, (quality, quality)).apply(image, np.random.default_rng(0)).tobytes() for quality in (60, 61, 62)}
    assert results == by_quality


@pytest.mark.parametrize("channels", [1, 3])
def test_erasing_replaces_one_rectangle(channels: int) -> None:
    """Outside of it nothing changes; its area and ratio are those asked for, its values are evenly spread."""
    image = np.full((100, 80, channels), 7, np.uint8)
    inside = []
    for epoch in range(100):
        erased = Erasing(1.0, (0.05, 0.2), (0.5, 2.0)).apply(image, augmentation_rng(0, epoch, b"x"))
        rows, columns = np.nonzero((erased != image).any(axis=2))
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert 0.04 < height * width / 8000 < 0.21
        assert 0.45 < width / height < 2.2
        part = erased[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert (part != 7).mean() > 0.98
        inside.append(part.ravel())
    assert abs(np.concatenate(inside).mean() - 127.5) < 1


def test_erasing_leaves_an_image_that_no_rectangle_fits() -> None:
    """A line of pixels has no part that is as high as wide and covers half of it."""
    image = np.zeros((1, 40, 3), np.uint8)
    assert Erasing(1.0, (0.5, 0.5), (1.0, 1.0)).apply(image, np.random.default_rng(0)) is image
