"""The IDX format: arrays of bytes behind a header that names their dimensions (as in the files of MNIST)."""

from __future__ import annotations

import math
import struct

import numpy as np
from numpy.typing import NDArray

from orchestrator.errors import StorageError

UINT8 = 0x08
"""The code of the element type; the only one that pictures and labels use."""


def parse_idx(content: bytes) -> NDArray[np.uint8]:
    """Read an uncompressed IDX file of uint8, of any number of dimensions.

    Raises:
        StorageError: It is not such a file, or its length is not what its header says.
    """
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != UINT8:  # noqa: PLR2004 -- the length of the magic number
        raise StorageError(f"not an IDX file of bytes: it begins with {content[:4].hex(' ') or 'nothing'}")
    start = 4 + 4 * content[3]
    if len(content) < start:
        raise StorageError(f"an IDX file ends inside its header, after {len(content)} bytes")
    shape = struct.unpack(f">{content[3]}I", content[4:start])
    if len(content) - start != math.prod(shape):
        raise StorageError(f"an IDX file holds {len(content) - start} bytes, and its header says {math.prod(shape)}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
