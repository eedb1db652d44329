"""Resizing, storing and augmenting: shapes, exactness, and the same result everywhere."""

from __future__ import annotations

import resource

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from source_files import fitted

from orchestrator.errors import DataError
from orchestrator.images.augment import augment, augmentation_rng
from orchestrator.images.geometry import HorizontalFlip, RandomCrop
from orchestrator.images.step import Step
from orchestrator.images.store import decode_stored, encode

SIDES = st.integers(1, 70)


@settings(max_examples=60, deadline=None)
@given(SIDES, SIDES, st.sampled_from([1, 3]), st.sampled_from(["crop", "pad", "squash"]), st.integers(8, 40))
def test_every_picture_fits(height: int, width: int, channels: int, fit: str, size: int) -> None:
    """Any shape becomes (size, size, channels); the right shape stays as it is."""
    image = np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)
    seen = fitted(image, size, fit)
    assert (fitted(seen, size, fit) == seen).all()


def test_crop_keeps_the_centre_and_pad_keeps_everything() -> None:
    """A wide picture loses its sides with crop, and gets black bars with pad."""
    image = np.full((10, 30, 3), 200, np.uint8)
    image[:, :8] = 10
    assert (fitted(image, 10, "crop") == 200).all()
    padded = fitted(image, 30, "pad")
    assert (padded[:10] == 0).all()
    assert (padded[10:20] == image).all()


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
@pytest.mark.parametrize("shape", [(1, 20_000, 3), (20_000, 1, 3)])
def test_a_picture_of_one_line_takes_little_memory(shape: tuple[int, ...], fit: str) -> None:
    """Its short side is enlarged a hundredfold, its long side is not."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert fitted(np.zeros(shape, np.uint8), 224, fit).shape == (224, 224, 3)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024


@pytest.mark.parametrize("size", [20, 60])
def test_crop_is_the_resized_centre_square(size: int) -> None:
    """Down and up, a wide and a high picture: nothing of the middle is lost, nothing of the sides comes in."""
    middle = np.random.default_rng(3).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    expected = fitted(middle, size, "squash")
    np.testing.assert_array_equal(fitted(np.pad(middle, ((0, 0), (15, 15), (0, 0))), size, "crop"), expected)
    np.testing.assert_array_equal(fitted(np.pad(middle, ((15, 15), (0, 0), (0, 0))), size, "crop"), expected)


@pytest.mark.parametrize("store", ["png", "raw"])
@pytest.mark.parametrize("channels", [1, 3])
def test_lossless_stores_give_back_the_pixels(store: str, channels: int) -> None:
    """png and raw: exactly the same pixels, in the same order of channels."""
    image = np.random.default_rng(1).integers(0, 256, (12, 12, channels), dtype=np.uint8)
    out = np.empty_like(image)
    decode_stored(encode(image, store, 95), store, out)
    np.testing.assert_array_equal(out, image)


def test_jpeg_is_close_and_deterministic() -> None:
    """The same picture gives the same bytes, and comes back in the same order of channels."""
    image = np.zeros((16, 16, 3), np.uint8)
    image[..., 0] = 220
    out = np.empty_like(image)
    data = encode(image, "jpeg", 95)
    decode_stored(data, "jpeg", out)
    assert data == encode(image, "jpeg", 95)
    assert np.abs(out.astype(int) - image).max() < 12


@pytest.mark.parametrize("store", ["png", "jpeg", "raw"])
def test_damaged_stored_pictures_are_named(store: str) -> None:
    """Bytes that hold no picture, or one of another shape, are an error, not a grey square."""
    other = encode(np.zeros((4, 9, 3), np.uint8), store, 95)
    for data in (b"nothing", b"", other, encode(np.zeros((8, 8, 3), np.uint8), store, 95)[:40]):
        with pytest.raises(DataError, match=f"{len(data)} stored bytes do not hold a {store} picture"):
            decode_stored(data, store, np.empty((8, 8, 3), np.uint8))


@pytest.mark.parametrize("step", [RandomCrop(2), RandomCrop(40), HorizontalFlip(0.5)])
def test_augmentation_depends_on_seed_epoch_and_id_alone(step: Step) -> None:
    """The same three give the same picture; shape and dtype stay; other epochs give other pictures."""
    image = np.random.default_rng(2).integers(0, 256, (12, 12, 3), dtype=np.uint8)

    def once(epoch: int) -> bytes:
        changed = augment(image, (step,), augmentation_rng(7, epoch, b"id"))
        assert (changed.shape, changed.dtype) == (image.shape, image.dtype)
        return changed.tobytes()

    assert [once(epoch) for epoch in range(12)] == [once(epoch) for epoch in range(12)]
    assert len({once(epoch) for epoch in range(12)}) > 1


def test_crops_are_windows_of_the_reflected_picture() -> None:
    """Every value of a crop is a value of the picture, and the shift stays within the padding."""
    image = np.arange(100, dtype=np.uint8).reshape(10, 10, 1)
    for epoch in range(20):
        cropped = augment(image, (RandomCrop(3),), augmentation_rng(0, epoch, b"x"))
        padded = np.pad(image[..., 0], 3, mode="reflect")
        assert any(np.array_equal(cropped[..., 0], padded[top : top + 10, left : left + 10]) for top in range(7) for left in range(7))


@pytest.mark.parametrize("steps", [(HorizontalFlip(1.0), RandomCrop(2)), (RandomCrop(2), HorizontalFlip(1.0))])
def test_steps_follow_one_another(steps: tuple[Step, ...]) -> None:
    """The second step changes what the first one made."""
    image = np.random.default_rng(4).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    by_hand = augmentation_rng(1, 2, b"x")
    expected = steps[1].apply(np.ascontiguousarray(steps[0].apply(image, by_hand)), by_hand)
    np.testing.assert_array_equal(augment(image, steps, augmentation_rng(1, 2, b"x")), expected)


def test_flips_happen_as_often_as_asked() -> None:
    """Never at 0, always at 1, about half of the time at 0.5."""
    image = np.arange(4, dtype=np.uint8).reshape(1, 4, 1)
    flipped = {
        probability: sum(
            augment(image, (HorizontalFlip(probability),), augmentation_rng(0, epoch, b"x"))[0, 0, 0] == 3 for epoch in range(400)
        )
        for probability in (0.0, 0.5, 1.0)
    }
    assert flipped[0.0] == 0
    assert flipped[1.0] == 400
    assert 150 < flipped[0.5] < 250
