"""The folders that tests are made of are what they say they are."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from orchestrator.images.decode import decode
from orchestrator.images.verdict import Reason, Rejection
from orchestrator.testing import photo, write_bad_images, write_image_folder

MAX_PIXELS = 64_000_000
"""The limit of a job that sets none."""


def test_bad_images_are_rejected_for_their_reason(tmp_path: Path) -> None:
    """One file for every reason code but those of a decoder that fails and of a file that is not there, and decode says the same."""
    reasons = write_bad_images(tmp_path)
    assert set(reasons.values()) == set(Reason) - {Reason.DECODE_TIMEOUT, Reason.DECODE_OOM, Reason.DECODER_CRASH, Reason.MISSING}
    for name, reason in reasons.items():
        verdict = decode((tmp_path / name).read_bytes(), channels=3, max_pixels=MAX_PIXELS)
        assert isinstance(verdict, Rejection), name
        assert verdict.reason is reason, name


def test_folders_are_written_as_asked(tmp_path: Path) -> None:
    """Splits, classes, sizes that are not square, both formats; the same seed writes the same bytes."""
    options = {"classes": ("a", "b"), "images_per_class": 2, "size": (40, 24), "splits": ("train", "test"), "form": "jpeg"}
    first, second = (write_image_folder(tmp_path / name, **options) for name in ("first", "second"))
    files = sorted(path.relative_to(first) for path in first.rglob("*.jpeg"))
    assert len(files) == 8
    assert {path.parts[:2] for path in files} == {("train", "a"), ("train", "b"), ("test", "a"), ("test", "b")}
    assert all((first / path).read_bytes() == (second / path).read_bytes() for path in files)
    image = decode((first / files[0]).read_bytes(), channels=3, max_pixels=MAX_PIXELS)
    assert isinstance(image, np.ndarray)
    assert image.shape == (24, 40, 3)


def test_a_photo_is_neither_noise_nor_flat() -> None:
    """As JPEG it takes less than noise and much more than one colour, at any shape."""
    rng = np.random.default_rng(0)
    image = photo(rng, 160, 120)
    assert (image.shape, image.dtype) == ((120, 160, 3), np.uint8)
    assert photo(rng, 1, 3).shape == (3, 1, 3)
    size, noise, flat = (
        len(cv2.imencode(".jpg", picture)[1])
        for picture in (image, rng.integers(0, 256, image.shape, dtype=np.uint8), np.zeros_like(image))
    )
    assert 10 * flat < size < 0.7 * noise
