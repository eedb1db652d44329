"""Every kind of bad or odd image and what must become of it: run by the tests, and printed as VERDICTS.md by this file."""

from __future__ import annotations

import struct
import sys
import zlib
from dataclasses import dataclass

import numpy as np
from source_files import (
    black_and_white_bmp,
    encoded,
    flat_jpeg,
    jpeg_segment,
    jpeg_with,
    plain,
    png_with,
    see_through,
    small_png,
    webp_with,
)

from orchestrator.images.picture import PixelWork
from orchestrator.images.verdict import Reason
from orchestrator.testing import one_colour_png, png_chunk

WORK = PixelWork(size=16, channels=3, fit="crop", store="png", jpeg_quality=95, max_pixels=1_000_000, decode_cpu_s=1, decode_wall_s=30)
PNG, JPEG, BMP, WEBP = encoded(".png"), encoded(".jpg"), encoded(".bmp"), plain("webp")
CLEARED = bytes(12)


@dataclass(frozen=True)
class Case:
    """A source file."""

    name: str
    """What it is, in words."""
    data: bytes
    outcome: Reason | str
    """Why it is rejected, or its kind in the shards."""
    what: str = ""
    """What is done to it, where it is taken."""


def cut_out(data: bytes, place: int) -> bytes:
    """With some bytes cleared."""
    return data[:place] + CLEARED + data[place + len(CLEARED) :]


FILES = (
    Case("no bytes", b"", Reason.EMPTY_FILE),
    Case("one byte", b"x", Reason.NOT_AN_IMAGE),
    Case("text", b"a note, no picture", Reason.NOT_AN_IMAGE),
    Case("HTML error page named .jpg", b"<!DOCTYPE html><title>404 Not Found</title>", Reason.NOT_AN_IMAGE),
    Case("GIF", b"GIF89a" + bytes(100), Reason.FORMAT_NOT_ALLOWED),
    Case("TIFF", b"II*\0" + bytes(100), Reason.FORMAT_NOT_ALLOWED),
    Case("AVIF or HEIF", b"\0\0\0\x1cftypavif" + bytes(100), Reason.FORMAT_NOT_ALLOWED),
    Case("JPEG that ends early", JPEG[: len(JPEG) // 2], Reason.TRUNCATED),
    Case("PNG that ends early", PNG[: len(PNG) // 2], Reason.TRUNCATED),
    Case("WebP that ends early", WEBP[: len(WEBP) // 2], Reason.TRUNCATED),
    Case("BMP that ends early", BMP[: len(BMP) // 2], Reason.TRUNCATED),
    Case("JPEG damaged inside, which its decoder reports on standard error alone", cut_out(JPEG, 640), Reason.CORRUPT),
    Case("PNG damaged inside", cut_out(PNG, 70), Reason.CORRUPT),
    Case("WebP damaged inside", b"RIFF" + WEBP[4:20] + bytes(len(WEBP) - 20), Reason.CORRUPT),
    Case("PNG with a checksum that does not fit its transparency", png_with(b"\0\0\0\x06tRNS" + bytes(10)), Reason.CORRUPT),
    Case("PNG of no width", png_with()[:16] + bytes(4) + png_with()[20:], Reason.CORRUPT),
    Case("PNG of 49 KB that would take 2 GB", one_colour_png(20_000, 19_000), Reason.TOO_LARGE),
    Case("animated PNG", png_with(png_chunk(b"acTL", struct.pack(">II", 2, 0))), Reason.ANIMATED),
    Case("animated WebP", webp_with(0x02), Reason.ANIMATED),
    Case("1 x 1 pixel", encoded(".png", np.zeros((1, 1, 3), np.uint8)), Reason.DEGENERATE_SIZE),
    Case("1 x 60,000 pixels", one_colour_png(1, 60_000), Reason.DEGENERATE_SIZE),
    Case("sides of more than 1 : 100", one_colour_png(2, 201), Reason.DEGENERATE_SIZE),
    Case("sides of 1 : 100", one_colour_png(2, 200), "png grey 1 bit", "cropped, padded or squashed as the job asks"),
    Case("PNG named .jpg", PNG, "png rgb", "decoded for what it is, counted as misnamed"),
    Case("CMYK JPEG", flat_jpeg((200, 100, 50, 220), 0), "jpeg cmyk", "converted to RGB without a profile"),
    Case("YCCK JPEG", flat_jpeg((130, 110, 160, 220), 2), "jpeg cmyk", "converted to RGB without a profile"),
    Case("grey JPEG", flat_jpeg((90,), None), "jpeg grey", "its grey in all channels"),
    Case("16-bit PNG", small_png(2, 16, bytes(12)), "png rgb 16 bit", "the upper 8 bits are kept"),
    Case("PNG with transparency", see_through(".png"), "png rgb+alpha", "composited on white"),
    Case("WebP with transparency", plain("webp alpha"), "webp rgb+alpha", "composited on white"),
    Case("palette PNG", small_png(3, 8, b"\0\1", png_chunk(b"PLTE", bytes(range(6)))), "png palette", "its colours are looked up"),
    Case("grey PNG", small_png(0, 8, b"\x10\x80"), "png grey", "its grey in all channels"),
    Case("PNG of one bit", small_png(0, 1, b"\x40"), "png grey 1 bit", "black and white in all channels"),
    Case("BMP of one bit", black_and_white_bmp(), "bmp palette", "its colours are looked up"),
    Case(
        "JPEG with a colour profile",
        jpeg_with(jpeg_segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(128))),
        "jpeg rgb icc",
        "the profile is not applied; the kind shows it",
    ),
    Case(
        "WebP with a colour profile",
        webp_with(0x20, (b"ICCP", bytes(128))),
        "webp rgb icc",
        "the profile is not applied; the kind shows it",
    ),
    Case(
        "PNG with a colour profile that its decoder complains of",
        png_with(png_chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(128)))),
        "png rgb icc",
        "the profile is not applied; the complaint is not about pixels",
    ),
    Case("PNG with a wrong checksum behind its pixels", PNG[:-4] + bytes(4), "png rgb", "all pixels are there"),
    Case("JPEG with an unknown JFIF revision", JPEG[:11] + b"\7" + JPEG[12:], "jpeg rgb", "the revision means nothing"),
    Case("turned by EXIF", jpeg_with(jpeg_segment(0xE1, b"Exif\0\0MM\0*" + bytes(3) + b"\x08" + bytes(6))), "jpeg rgb", "shown upright"),
)
"""Given to the real decoder."""

FAULTS = (
    Case("the decoder crashes", b"segfault", Reason.DECODER_CRASH),
    Case("the decoder aborts", b"abort", Reason.DECODER_CRASH),
    Case("the decoder is killed, twice", b"killed", Reason.DECODER_CRASH),
    Case("the decoder raises an error of its own", b"raise", Reason.DECODER_CRASH),
    Case("the decoder answers nonsense", b"nonsense", Reason.DECODER_CRASH),
    Case("the decoder answers without end", b"endless", Reason.DECODER_CRASH),
    Case("decoding takes more CPU time than is allowed", b"spin", Reason.DECODE_TIMEOUT),
    Case("decoding takes more memory than the largest allowed picture needs", b"allocate", Reason.DECODE_OOM),
    Case("the decoder aborts for want of memory", b"bad_alloc", Reason.DECODE_OOM),
)
"""Given to `faulty_decoder`."""


def render() -> str:
    """The content of VERDICTS.md."""
    rejected = [f"| {case.name} | rejected | `{case.outcome.value}` |" for case in (*FILES, *FAULTS) if isinstance(case.outcome, Reason)]
    taken = [f"| {case.name} | {case.what} | `{case.outcome}` |" for case in FILES if not isinstance(case.outcome, Reason)]
    return "\n".join(
        [
            "# What becomes of bad and odd images",
            "",
            "Written by `make verdicts` from the cases of `tests/unit/images/verdict_cases.py`, which the tests run. A rejected image",
            "stands in `rejects.parquet` with its reason; the codes are stable.",
            "",
            "| image | what happens | reason |",
            "|---|---|---|",
            *rejected,
            "",
            "An image that is taken stands in a shard, with its kind.",
            "",
            "| image | what happens | kind |",
            "|---|---|---|",
            *taken,
            "",
        ]
    )


if __name__ == "__main__":
    sys.stdout.write(render())
