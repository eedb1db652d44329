"""Bytes become an image or a verdict, whatever they are."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from source_files import encoded, exif, flat_jpeg, gradient, oriented, plain, see_through, small_png, turned

from orchestrator.images.decode import decode
from orchestrator.images.orientation import read_orientation
from orchestrator.images.sniff import Header, sniff
from orchestrator.images.verdict import Reason, Rejection
from orchestrator.testing import one_colour_png, png_chunk

LIMIT = 1_000_000


def reason(data: bytes) -> Reason:
    verdict = decode(data, channels=3, max_pixels=LIMIT)
    assert isinstance(verdict, Rejection)
    return verdict.reason


@pytest.mark.parametrize("extension", [".png", ".bmp", ".jpg", ".webp"])
def test_every_allowed_format_is_decoded_as_rgb(extension: str) -> None:
    """The picture comes back in RGB order, upright, nearly or exactly as it was."""
    image = decode(encoded(extension), channels=3, max_pixels=LIMIT)
    assert isinstance(image, np.ndarray)
    assert image.shape == (24, 40, 3)
    assert np.abs(image.astype(int) - gradient()).mean() < (1 if extension in {".png", ".bmp"} else 8)


def test_grey_keeps_a_channel_axis() -> None:
    """With one channel the shape is (H, W, 1)."""
    image = decode(encoded(".png"), channels=1, max_pixels=LIMIT)
    assert isinstance(image, np.ndarray)
    assert image.shape == (24, 40, 1)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", Reason.EMPTY_FILE),
        (b"x", Reason.NOT_AN_IMAGE),
        (b"<html>not found</html>", Reason.NOT_AN_IMAGE),
        (b"GIF89a" + bytes(100), Reason.FORMAT_NOT_ALLOWED),
        (b"II*\0" + bytes(100), Reason.FORMAT_NOT_ALLOWED),
        (encoded(".png")[:-40], Reason.TRUNCATED),
        (encoded(".jpg")[:-40], Reason.TRUNCATED),
        (encoded(".webp")[:-40], Reason.TRUNCATED),
        (encoded(".bmp")[:-400], Reason.TRUNCATED),
        *[(encoded(".png")[:length], Reason.TRUNCATED) for length in range(20, 34)],
    ],
)
def test_each_kind_of_damage_has_its_reason(data: bytes, expected: Reason) -> None:
    """The reason codes are stable."""
    assert reason(data) is expected


def test_damage_inside_a_png_is_corrupt() -> None:
    """A PNG whose end is there, but whose pixels do not unpack."""
    data = bytearray(encoded(".png"))
    data[60:90] = bytes(30)
    assert reason(bytes(data)) is Reason.CORRUPT


def test_a_bomb_is_rejected_by_its_header() -> None:
    """A PNG of under 50 KB that would unpack to 50 million pixels is never decoded."""
    bomb = one_colour_png(10_000, 5_000)
    assert len(bomb) < 50_000
    assert sniff(bomb) == Header("png", 10_000, 5_000, mode="grey", bits=1)
    assert reason(bomb) is Reason.TOO_LARGE


def test_animated_pictures_are_rejected() -> None:
    """An APNG and an animated WebP have no single picture."""
    png = encoded(".png")
    control = struct.pack(">I", 8) + b"acTL" + bytes(8) + struct.pack(">I", zlib.crc32(b"acTL" + bytes(8)))
    assert reason(png[:33] + control + png[33:]) is Reason.ANIMATED
    webp = b"RIFF" + struct.pack("<I", 100) + b"WEBPVP8X" + struct.pack("<IB", 10, 2) + bytes(3) + b"\x0f\0\0\x0f\0\0" + bytes(80)
    assert reason(webp) is Reason.ANIMATED


@pytest.mark.parametrize("form", ["jpeg", "png", "png alpha", "webp", "webp alpha", "webp lossless"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(form: str, orientation: int) -> None:
    """The eight orientations of EXIF are turned upright, in every format that can say so."""
    image = decode(oriented(form, orientation), channels=3, max_pixels=LIMIT)
    upright = decode(plain(form), channels=3, max_pixels=LIMIT)
    assert isinstance(image, np.ndarray)
    assert isinstance(upright, np.ndarray)
    np.testing.assert_array_equal(image, turned(upright, orientation))


@pytest.mark.parametrize(
    ("samples", "transform", "rgb"),
    [
        ((200, 100, 50, 220), 0, (172.5, 86.3, 43.1)),
        ((200, 100, 50, 220), None, (172.5, 86.3, 43.1)),
        ((255, 255, 255, 255), 0, (255, 255, 255)),
        ((255, 0, 255, 255), 0, (255, 0, 255)),
        ((128, 128, 128, 255), 2, (127, 127, 127)),
        ((130, 110, 160, 220), 2, (69.1, 122.2, 135.4)),
    ],
)
def test_colours_for_print_are_converted(samples: tuple[int, ...], transform: int | None, rgb: tuple[float, ...]) -> None:
    """CMYK and YCCK as Adobe stores them, inverted: red is C * K / 255; worked out by hand, as Pillow does it, with the matrix of JFIF."""
    image = decode(flat_jpeg(samples, transform), channels=3, max_pixels=LIMIT)
    assert isinstance(image, np.ndarray)
    np.testing.assert_allclose(image.reshape(-1, 3).mean(axis=0), rgb, atol=1.5)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("orientation", [0, *range(1, 9), 9])
def test_transparent_pictures_are_turned_as_well(orientation: int, channels: int) -> None:
    """OpenCV leaves pictures with transparency as they are; an orientation that EXIF does not know is upright."""
    data = see_through(".png")
    image = decode(data[:33] + png_chunk(b"eXIf", exif(orientation)) + data[33:], channels=channels, max_pixels=LIMIT)
    plain = decode(data, channels=channels, max_pixels=LIMIT)
    assert isinstance(image, np.ndarray)
    assert isinstance(plain, np.ndarray)
    np.testing.assert_array_equal(image, turned(plain, orientation if 1 <= orientation <= 8 else 1))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60), st.sampled_from([b"", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"]))
def test_damaged_metadata_leave_the_picture_upright_or_turned(tail: bytes, start: bytes) -> None:
    """Whatever stands in the metadata, the orientation is one of eight."""
    assert read_orientation(start + tail) in range(1, 9)


def test_transparency_shows_white() -> None:
    """Alpha 0 is white whatever colour lies under it, alpha 255 is the colour."""
    picture = np.zeros((4, 4, 4), np.uint8)
    picture[:2] = (10, 20, 30, 255)
    image = decode(cv2.imencode(".png", picture)[1].tobytes(), channels=3, max_pixels=LIMIT)
    assert isinstance(image, np.ndarray)
    assert image[0, 0].tolist() == [30, 20, 10]
    assert image[3, 3].tolist() == [255, 255, 255]


def test_transparent_colours_of_a_palette_show_white() -> None:
    """A palette whose first colour is transparent, behind a comment of any length."""
    palette = png_chunk(b"PLTE", bytes([10, 20, 30, 40, 50, 60])) + png_chunk(b"tRNS", bytes([0, 255]))
    data = small_png(3, 8, b"\0\1", png_chunk(b"tEXt", b"Comment\0" + b"x" * 5000), palette)
    image = decode(data, channels=3, max_pixels=LIMIT)
    assert isinstance(image, np.ndarray)
    assert image.tolist() == 2 * [[[255, 255, 255], [40, 50, 60]]]


def test_16_bit_samples_are_scaled() -> None:
    """The upper eight bits are kept."""
    picture = np.full((4, 4), 0x8000, np.uint16)
    image = decode(cv2.imencode(".png", picture)[1].tobytes(), channels=1, max_pixels=LIMIT)
    assert isinstance(image, np.ndarray)
    assert abs(int(image[0, 0, 0]) - 0x80) <= 1


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBP", b"BM"]))
def test_any_bytes_get_a_verdict(tail: bytes, start: bytes) -> None:
    """Random bytes, also behind the magic of each format, never raise."""
    assert isinstance(decode(start + tail, channels=3, max_pixels=LIMIT), (np.ndarray, Rejection))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([".png", ".jpg", ".webp", ".bmp"]), st.integers(0, 10_000), st.integers(0, 255), st.booleans())
def test_damaged_pictures_get_a_verdict(extension: str, place: int, value: int, cut: bool) -> None:
    """A picture with one byte changed, or cut anywhere, never raises; a cut PNG or JPEG is never taken."""
    data = bytearray(encoded(extension))
    at = place % len(data)
    data[at] = value
    result = decode(bytes(data[:at] if cut else data), channels=3, max_pixels=LIMIT)
    assert isinstance(result, (np.ndarray, Rejection))
    if cut and extension in {".png", ".jpg"} and at < len(data) - 16:
        assert isinstance(result, Rejection)
