"""The EXIF orientation, for pictures that OpenCV does not turn upright: it leaves those with transparency as they are.

Layout: EXIF 2.32, section 4.6: a TIFF header and a directory of entries of twelve bytes.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

ORIENTATION = 0x0112
"""The tag of the orientation."""
TURNS = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}
"""For each orientation: swap rows and columns first, then reverse the rows, then the columns."""


def read_orientation(exif: bytes) -> int:
    """1 to 8; 1, upright, where the metadata does not say or are damaged."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, start)
        entries = (struct.unpack_from(f"{order}HHIH", exif, start + 2 + 12 * number) for number in range(count))
        found = next((value for tag, _, _, value in entries if tag == ORIENTATION), 1)
    except struct.error:
        return 1
    return found if found in TURNS else 1


def turn_upright(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """(H, W, C) to the picture as it is meant to be seen."""
    swap, reverse_rows, reverse_columns = TURNS[orientation]
    turned = image.swapaxes(0, 1) if swap else image
    turned = turned[::-1] if reverse_rows else turned
    return np.ascontiguousarray(turned[:, ::-1] if reverse_columns else turned)
