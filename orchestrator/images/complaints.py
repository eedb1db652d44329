"""What the decoders say on standard error, and what it means for the picture.

libjpeg and libpng report damage that they can live with there and nowhere else: without listening, most of the damaged JPEGs
whose damage is noticed at all would pass for good ones.
"""

from __future__ import annotations

import re
from dataclasses import replace

from orchestrator.images.picture import StoredPicture
from orchestrator.images.verdict import Reason, Rejection

HARMLESS = (
    # Ancillary chunks, whose names begin with a small letter, cannot change pixels: iCCP "known incorrect sRGB profile", a tIME
    # that is no time. Two of them count, because they decide what is shown: tRNS what is transparent, eXIf which side is up.
    re.compile(r"libpng warning: (?!tRNS|eXIf)[a-z][A-Za-z]{3}: "),
    re.compile(r"libpng warning: Ignoring invalid time value"),
    # Behind the last pixel.
    re.compile(r"libpng warning: IEND: "),
    re.compile(r"libpng warning: IDAT: Extra compressed data"),
    # Numbers that a decoder of sequential JPEGs has no use for.
    re.compile(r"Warning: unknown JFIF revision number"),
    re.compile(r"Invalid SOS parameters for sequential JPEG"),
)
"""Complaints about files whose pixels are whole; any other means that a picture may not be what it was."""
DETAIL_CHARACTERS = 200


def weigh_complaints(result: StoredPicture | Rejection, said: str) -> StoredPicture | Rejection:
    """The verdict on an image, given what its decoder wrote to standard error."""
    grave = next((line for line in said.splitlines() if line and not any(known.match(line) for known in HARMLESS)), "")
    if not grave:
        return result
    if isinstance(result, StoredPicture):
        return Rejection(Reason.CORRUPT, grave[:DETAIL_CHARACTERS])
    return replace(result, detail=f"{result.detail}; {grave}"[:DETAIL_CHARACTERS])
