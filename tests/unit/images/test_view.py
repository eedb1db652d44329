"""What the model sees of a stored picture: the right part of it, and no pixel decoded in vain."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from source_files import encoded, exif, fitted, gradient, jpeg_segment, turned

from orchestrator.errors import DataError
from orchestrator.images.augment import augment, augmentation_rng
from orchestrator.images.decode import decode
from orchestrator.images.frame import Frame, Window, fit_frame
from orchestrator.images.geometry import HorizontalFlip, RandomCrop, RandomResizedCrop, draw_window
from orchestrator.images.picture import PixelWork, StoredPicture, prepare_picture
from orchestrator.images.step import Step
from orchestrator.images.store import encode
from orchestrator.images.view import View

SIZE = 16
CROP = RandomResizedCrop((0.08, 1.0), (0.75, 1.3333))
FITS = ("crop", "pad", "squash")


def rng(epoch: int) -> np.random.Generator:
    return augmentation_rng(3, epoch, b"id")


def original(channels: int = 3, fit: str = "crop", size: int = SIZE) -> View:
    return View("original", size, size, channels, fit)


def shown(view: View, data: bytes, steps: Sequence[Step] = (), epoch: int | None = None) -> NDArray[np.uint8]:
    out = np.full((view.size, view.size, view.channels), 77, np.uint8)
    if epoch is None:
        view.show(data, out)
    else:
        view.show_augmented(data, out, steps, rng(epoch))
    return out


def whole(data: bytes, channels: int = 3) -> NDArray[np.uint8]:
    image = decode(data, channels=channels, max_pixels=10**8)
    assert isinstance(image, np.ndarray)
    return image


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("epoch", range(12))
def test_a_crop_is_cut_from_the_picture_as_it_was(epoch: int, channels: int) -> None:
    """The first transform cuts from the full original, and is resized once: by hand, with the same draws."""
    data = encoded(".png", gradient(50, 80))
    draws = rng(epoch)
    window = draw_window(50, 80, CROP.scale, CROP.ratio, draws)
    assert window is not None
    part = whole(data, channels)[window.top : window.top + window.height, window.left : window.left + window.width]
    halved = min(window.height, window.width) >= 2 * SIZE
    by_hand = cv2.resize(part, (SIZE, SIZE), interpolation=cv2.INTER_AREA if halved else cv2.INTER_LINEAR).reshape(SIZE, SIZE, channels)
    expected = augment(by_hand, (HorizontalFlip(0.5),), draws)
    np.testing.assert_array_equal(shown(original(channels), data, (CROP, HorizontalFlip(0.5)), epoch), expected)


@pytest.mark.parametrize(
    ("sides", "reduction"), [((31, 60), 1), ((32, 60), 2), ((63, 64), 2), ((64, 64), 4), ((128, 300), 8), ((900, 901), 8)]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_large_jpeg_is_decoded_reduced(sides: tuple[int, int], reduction: int, channels: int) -> None:
    """Where the part is at least twice, four or eight times as large as the image, and then only."""
    data = encoded(".jpg", gradient(*sides))
    flags = {
        1: (cv2.IMREAD_GRAYSCALE, cv2.IMREAD_COLOR_BGR),
        2: (cv2.IMREAD_REDUCED_GRAYSCALE_2, cv2.IMREAD_REDUCED_COLOR_2),
        4: (cv2.IMREAD_REDUCED_GRAYSCALE_4, cv2.IMREAD_REDUCED_COLOR_4),
        8: (cv2.IMREAD_REDUCED_GRAYSCALE_8, cv2.IMREAD_REDUCED_COLOR_8),
    }[reduction]
    reduced = cv2.imdecode(np.frombuffer(data, np.uint8), flags[channels == 3])
    assert reduced is not None
    reduced = cv2.cvtColor(reduced, cv2.COLOR_BGR2RGB) if channels == 3 else reduced[:, :, np.newaxis]
    window = fit_frame(*sides, size=SIZE, fit="crop").window
    frame = Frame(window, SIZE, SIZE).moved(sides, (reduced.shape[0], reduced.shape[1]))
    expected = np.empty((SIZE, SIZE, channels), np.uint8)
    frame.fill(reduced, expected)
    found = shown(original(channels), data)
    np.testing.assert_array_equal(found, expected)
    assert np.abs(found.astype(int) - fitted(whole(data, channels), SIZE, "crop")).max() <= 16


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("fit", FITS)
def test_a_reduced_picture_is_upright(orientation: int, fit: str) -> None:
    """Whichever way the camera was held, the same part is cut as from the upright picture, in training as well."""
    stored = gradient(150, 220)
    jpeg = encoded(".jpg", stored)
    data = jpeg[:2] + jpeg_segment(0xE1, b"Exif\0\0" + exif(orientation)) + jpeg[2:]
    upright = encoded(".png", np.ascontiguousarray(turned(stored, orientation)))
    view = original(fit=fit)
    for epoch in (None, 1, 2):
        found, expected = shown(view, data, (CROP,), epoch), shown(view, upright, (CROP,), epoch)
        assert np.abs(found.astype(int) - expected).mean() < 6, epoch  # a picture turned the wrong way is 40 off


@settings(max_examples=150, deadline=None)
@given(st.integers(2, 200), st.integers(2, 200), st.integers(8, 40), st.sampled_from(FITS), st.sampled_from([1, 3]), st.integers(0, 5))
def test_any_original_gives_an_image(height: int, width: int, size: int, fit: str, channels: int, epoch: int) -> None:
    """Of the right shape, all of it written, the same every time, and near what a PNG gives."""
    image = gradient(height, width)
    view, jpeg, png = original(channels, fit, size), encoded(".jpg", image), encoded(".png", image)
    for at in (None, epoch):
        found = shown(view, jpeg, (CROP,), at)
        np.testing.assert_array_equal(found, shown(view, jpeg, (CROP,), at))
        if min(height, width) >= 16:  # JPEG keeps the colours of blocks of 16 pixels; windows are whole reduced pixels
            assert np.abs(found.astype(int) - shown(view, png, (CROP,), at)).mean() < 255 / size


@pytest.mark.parametrize("store", ["png", "raw"])
@pytest.mark.parametrize("form", [".png", ".jpg"])
@pytest.mark.parametrize("fit", FITS)
def test_every_store_is_evaluated_alike(store: str, form: str, fit: str) -> None:
    """An original gives the pixels that are stored without loss, also where it is decoded reduced."""
    data = encoded(form, gradient(70, 90))
    work = PixelWork(size=SIZE, channels=3, fit=fit, store=store, jpeg_quality=95, max_pixels=10**6)
    stored = prepare_picture(data, work)
    assert isinstance(stored, StoredPicture)
    assert (stored.height, stored.width) == (70, 90)
    np.testing.assert_array_equal(shown(View(store, SIZE, SIZE, 3, fit), stored.data), shown(original(fit=fit), data))


@pytest.mark.parametrize("store", ["jpeg", "png", "raw"])
@pytest.mark.parametrize("steps", [(CROP, HorizontalFlip(0.5)), (HorizontalFlip(0.5), CROP), (RandomCrop(2),), ()])
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_stored_in_their_size_are_augmented_as_they_are(store: str, steps: tuple[Step, ...], channels: int) -> None:
    """Nothing is resized before or after the transforms."""
    data = encode(np.random.default_rng(1).integers(0, 256, (SIZE, SIZE, channels), dtype=np.uint8), store, 95)
    view = View(store, SIZE, SIZE, channels, "crop")
    for epoch in range(6):
        np.testing.assert_array_equal(shown(view, data, steps, epoch), augment(shown(view, data), steps, rng(epoch)))


@pytest.mark.parametrize("store", ["jpeg", "png", "raw"])
def test_crops_are_cut_from_what_is_stored_larger(store: str) -> None:
    """Evaluation shrinks the stored picture; a crop of it is cut first; a JPEG is decoded reduced for both where that is enough."""
    side = 4 * SIZE
    image = gradient(side, side)
    data = encode(image, store, 95)
    view = View(store, side, SIZE, 3, "crop")
    assert np.abs(shown(view, data).astype(int) - fitted(image, SIZE, "crop")).max() <= 6
    for epoch in range(6):
        window = draw_window(side, side, CROP.scale, CROP.ratio, rng(epoch))
        assert window is not None
        expected = cv2.resize(window.of(image), (SIZE, SIZE), interpolation=cv2.INTER_AREA)
        assert np.abs(shown(view, data, (CROP,), epoch).astype(int) - expected).max() <= 12
    if store == "jpeg":
        quarter = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_REDUCED_COLOR_4), cv2.COLOR_BGR2RGB)
        np.testing.assert_array_equal(shown(view, data), quarter)


@pytest.mark.parametrize("store", ["original", "jpeg", "png", "raw"])
def test_stored_bytes_that_hold_no_picture_are_named(store: str) -> None:
    """Also of another size than the manifest says; an original may have any."""
    view = View(store, 2 * SIZE, SIZE, 3, "crop")
    damaged = [b"nothing", b""]
    if store != "original":
        damaged += [encode(gradient(8, 9), store, 95), encode(gradient(2 * SIZE, 2 * SIZE), store, 95)[:60]]
    for data in damaged:
        with pytest.raises(DataError, match=f"{len(data)} stored bytes do not hold a {store} picture"):
            shown(view, data)


def test_a_frame_says_how_much_can_be_left_out() -> None:
    """Both sides of the window count."""
    assert Frame(Window(0, 0, 64, 31), 16, 16).reduction == 1
    assert Frame(Window(0, 0, 64, 32), 16, 16).reduction == 2
    assert Frame(Window(0, 0, 128, 1000), 16, 100).reduction == 8
    assert Frame(Window(10, 20, 40, 60), 16, 16).moved((200, 300), (100, 150)) == Frame(Window(5, 10, 20, 30), 16, 16)
    assert partial(fit_frame, size=8, fit="squash")(8, 8).keeps(8, 8)
