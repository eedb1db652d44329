"""Format and size are known from the header, whatever lies around it."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.images.sniff import Header, sniff
from orchestrator.images.verdict import Reason, Rejection
from orchestrator.testing import png_chunk


def encoded(extension: str, channels: int = 3) -> bytes:
    options = [cv2.IMWRITE_WEBP_QUALITY, 80] if extension == ".webp" else []
    return cv2.imencode(extension, np.full((6, 9, channels), 90, np.uint8), options)[1].tobytes()


PNG = encoded(".png")
LARGE_CHUNK = png_chunk(b"iTXt", b"Comment\0\0\0\0\0" + b"x" * 9_000)


def after_header(png: bytes, *chunks: bytes) -> bytes:
    """A PNG with more chunks behind IHDR."""
    return png[:33] + b"".join(chunks) + png[33:]


@pytest.mark.parametrize(("extension", "form"), [(".png", "png"), (".jpg", "jpeg"), (".webp", "webp"), (".bmp", "bmp")])
def test_the_size_is_in_the_header(extension: str, form: str) -> None:
    """Width and height of every allowed format, from the first kilobyte alone."""
    assert sniff(encoded(extension)[:1000]) == Header(form, 9, 6, mode="rgb")


def test_transparency_is_announced() -> None:
    """PNG and WebP with an alpha channel, and a PNG with a transparent colour however far behind its header."""
    assert sniff(encoded(".png", 4)) == Header("png", 9, 6, alpha=True, mode="rgb+alpha")
    assert sniff(encoded(".webp", 4)) == Header("webp", 9, 6, alpha=True, mode="rgb+alpha")
    assert sniff(after_header(PNG, LARGE_CHUNK, png_chunk(b"tRNS", bytes(6)))) == Header("png", 9, 6, alpha=True, mode="rgb")


def test_animation_is_a_chunk_and_not_a_word() -> None:
    """The animation chunk counts however late it comes; a comment of that name does not."""
    control = png_chunk(b"acTL", struct.pack(">II", 2, 0))
    assert sniff(after_header(PNG, LARGE_CHUNK, control)) == Header("png", 9, 6, animated=True, mode="rgb")
    assert sniff(after_header(PNG, png_chunk(b"tEXt", b"Comment\0acTL and tRNS"))) == Header("png", 9, 6, mode="rgb")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (encoded(".png", 1), "png grey"),
        (encoded(".png", 4), "png rgb+alpha"),
        (cv2.imencode(".png", np.zeros((4, 4, 3), np.uint16))[1].tobytes(), "png rgb 16 bit"),
        (encoded(".jpg", 1), "jpeg grey"),
        (encoded(".jpg"), "jpeg rgb"),
        (encoded(".webp"), "webp rgb"),
        (encoded(".bmp"), "bmp rgb"),
    ],
)
def test_the_kind_of_a_picture_is_in_its_header(content: bytes, kind: str) -> None:
    """Format, colours and depth, as the health of a collection counts them."""
    header = sniff(content)
    assert isinstance(header, Header)
    assert header.kind == kind


@pytest.mark.parametrize("text", [b"BMW builds cars, and more of them every year", b"BM", b"BM" + bytes(60)])
def test_a_text_that_begins_like_a_bmp_is_no_image(text: bytes) -> None:
    """Two letters do not make a bitmap of two billion pixels."""
    verdict = sniff(text)
    assert isinstance(verdict, Rejection)
    assert verdict.reason is Reason.NOT_AN_IMAGE


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([".png", ".jpg", ".webp", ".bmp"]), st.integers(3, 4), st.data())
def test_a_header_that_is_cut_is_a_verdict(extension: str, channels: int, data: st.DataObject) -> None:
    """Cut at any byte, the size is the true one or there is a verdict."""
    content = encoded(extension, channels if extension in {".png", ".webp"} else 3)
    found = sniff(content[: data.draw(st.integers(0, min(len(content), 700)))])
    assert isinstance(found, Rejection) or (found.width, found.height) == (9, 6)
