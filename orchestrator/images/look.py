"""What a picture looks like, in 96 bytes: a hash to find candidates by, and a tiny copy to judge them by.

Method: difference hash (Krawetz, "Kind of Like That", 2013): the signs of the differences between neighbours of a small grey
copy. It knows shapes alone, so pictures whose hashes agree are compared by a copy of 8 x 8 pixels as well.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

cv2.setNumThreads(0)

SIDE = 16
HASH_BYTES = SIDE * SIDE // 8
COPY_SIDE = 8
REDUCED_SIDE = 32


def look_of(image: NDArray[np.uint8]) -> bytes:
    """(H, W, 1 or 3) uint8 to 32 bytes of hash, all zeros for a picture of one colour, and 64 bytes of grey levels."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.shape[2] == 3 else image[:, :, 0]  # noqa: PLR2004
    factor = min(grey.shape) // REDUCED_SIDE
    if factor > 1:  # OpenCV averages whole blocks of pixels several times as fast as parts of them
        grey = cv2.resize(grey, (grey.shape[1] // factor, grey.shape[0] // factor), interpolation=cv2.INTER_AREA)
    small = cv2.resize(grey, (SIDE + 1, SIDE), interpolation=cv2.INTER_AREA)
    copy = cv2.resize(grey, (COPY_SIDE, COPY_SIDE), interpolation=cv2.INTER_AREA)
    hashed: NDArray[np.uint8] = np.packbits(small[:, 1:] > small[:, :-1])
    return bytes(hashed) + bytes(copy)
