"""Format and size of an image from its header alone, before anything is allocated for its pixels.

Layouts: PNG specification (W3C), ITU T.81 for JPEG, RFC 9649 for WebP, the Windows BITMAPINFOHEADER.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from orchestrator.images.orientation import TURNS, read_orientation
from orchestrator.images.verdict import Reason, Rejection

OTHER_FORMATS = (
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xffO\xffQ", "JPEG 2000"),
    (b"%PDF", "PDF"),
)
JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Start-of-frame markers: the segments that hold the size."""
JPEG_BARE_MARKERS = frozenset(range(0xD0, 0xD9)) | {0x01}
"""Markers without a length."""
PNG_MODES = {0: "grey", 2: "rgb", 3: "palette", 4: "grey+alpha", 6: "rgb+alpha"}
JPEG_MODES = {1: "grey", 3: "rgb", 4: "cmyk"}
"""By the number of components."""
PNG_ALPHA_TYPES = frozenset({4, 6})
"""Colour types with an alpha channel: grey and RGB."""
BMP_HEADER_SIZES = frozenset({12, 40, 52, 56, 64, 108, 124})
"""Bytes of the known headers: a text that happens to begin with BM has none of them."""


@dataclass(frozen=True)
class Header:
    """What the header announces."""

    format: str
    """`jpeg`, `png`, `webp` or `bmp`."""
    width: int
    height: int
    animated: bool = False
    alpha: bool = False
    """Parts of the picture may be transparent."""
    mode: str = ""
    """`grey`, `rgb`, `palette`, `grey+alpha`, `rgb+alpha` or `cmyk`; empty where the header does not say."""
    bits: int = 8
    """Bits of a sample."""
    icc: bool = False
    """The file brings a colour profile."""
    turned: bool = False
    """The picture is meant to be seen after a quarter turn; only known of JPEGs."""

    @property
    def upright(self) -> tuple[int, int]:
        """Height and width as the picture is meant to be seen."""
        return (self.width, self.height) if self.turned else (self.height, self.width)

    @property
    def kind(self) -> str:
        """Format, mode, depth and colour profile as one phrase: `png rgb 16 bit icc`."""
        depth = "" if self.bits == 8 else f"{self.bits} bit"
        return " ".join(part for part in (self.format, self.mode, depth, "icc" if self.icc else "") if part)


def sniff(data: bytes) -> Header | Rejection:
    """Read the header; never raises."""
    if not data:
        return Rejection(Reason.EMPTY_FILE, "the file has no content")
    try:
        return _sniff(data)
    except (struct.error, IndexError):
        return Rejection(Reason.TRUNCATED, f"the header ends after {len(data)} bytes")


def _sniff(data: bytes) -> Header | Rejection:
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _sniff_png(data)
    if data.startswith(b"\xff\xd8\xff"):
        return _sniff_jpeg(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _sniff_webp(data)
    if data.startswith(b"BM") and int.from_bytes(data[14:18], "little") in BMP_HEADER_SIZES:
        return _sniff_bmp(data)
    other = next((name for magic, name in OTHER_FORMATS if data.startswith(magic)), "")
    if data[4:12] in (b"ftypavif", b"ftypheic", b"ftypmif1"):
        other = "AVIF or HEIF"
    if other:
        return Rejection(Reason.FORMAT_NOT_ALLOWED, f"{other}; jpeg, png, webp and bmp are taken")
    return Rejection(Reason.NOT_AN_IMAGE, f"starts with {data[:8]!r}")


def _sniff_png(data: bytes) -> Header | Rejection:
    length, kind, width, height, bits, colour_type = struct.unpack_from(">I4sIIBB", data, 8)
    if (kind, length) != (b"IHDR", 13):
        return Rejection(Reason.CORRUPT, "PNG without IHDR")
    kinds = _png_chunks_before_pixels(data)
    alpha = colour_type in PNG_ALPHA_TYPES or b"tRNS" in kinds
    mode = PNG_MODES.get(colour_type, "")
    return Header("png", width, height, animated=b"acTL" in kinds, alpha=alpha, mode=mode, bits=bits, icc=b"iCCP" in kinds)


def _png_chunks_before_pixels(data: bytes) -> set[bytes]:
    """The kinds of the chunks between IHDR and IDAT; those of an animation and of transparency have to stand there."""
    kinds: set[bytes] = set()
    at = 33
    while True:
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind in (b"IDAT", b"IEND"):
            return kinds
        kinds.add(kind)
        at += 12 + length


def _sniff_jpeg(data: bytes) -> Header | Rejection:
    at, icc, turned = 2, False, False
    while True:
        at = data.find(b"\xff", at)
        if at < 0:
            return Rejection(Reason.TRUNCATED, f"JPEG without a frame header, {len(data)} bytes")
        while data[at] == 0xFF:
            at += 1
        marker = data[at]
        at += 1
        if marker in JPEG_FRAMES:
            bits, height, width, components = struct.unpack_from(">BHHB", data, at + 2)
            return Header("jpeg", width, height, mode=JPEG_MODES.get(components, ""), bits=bits, icc=icc, turned=turned)
        if marker in (0xD9, 0xDA):
            return Rejection(Reason.CORRUPT, "JPEG without a frame header")
        icc = icc or (marker == 0xE2 and data.startswith(b"ICC_PROFILE\0", at + 2))
        if marker == 0xE1 and data.startswith(b"Exif\0\0", at + 2):
            (length,) = struct.unpack_from(">H", data, at)
            turned = TURNS[read_orientation(data[at + 8 : at + length])][0]
        if marker not in JPEG_BARE_MARKERS:
            at += struct.unpack_from(">H", data, at)[0]


def _sniff_webp(data: bytes) -> Header | Rejection:
    chunk = data[12:16]
    if chunk == b"VP8X":
        flags, *canvas = struct.unpack_from("<B3x3s3s", data, 20)
        width, height = (1 + int.from_bytes(side, "little") for side in canvas)
        alpha = bool(flags & 0x10)
        return Header("webp", width, height, animated=bool(flags & 0x02), alpha=alpha, mode=_webp_mode(alpha), icc=bool(flags & 0x20))
    if chunk == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return Header("webp", 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), alpha=True, mode=_webp_mode(bool(bits >> 28 & 1)))
    if chunk == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return Header("webp", width & 0x3FFF, height & 0x3FFF, mode="rgb")
    return Rejection(Reason.TRUNCATED if len(data) < 16 else Reason.CORRUPT, "WebP without an image chunk")


def _webp_mode(alpha: bool) -> str:  # noqa: FBT001 -- there is nothing else it could mean
    return "rgb+alpha" if alpha else "rgb"


def _sniff_bmp(data: bytes) -> Header | Rejection:
    (header_size,) = struct.unpack_from("<I", data, 14)
    if header_size == 12:
        width, height, bits = struct.unpack_from("<HH2xH", data, 18)
    else:
        width, height, bits = struct.unpack_from("<ii2xH", data, 18)
    return Header("bmp", abs(width), abs(height), mode="rgb" if bits > 8 else "palette")
