"""A contact sheet: pictures in rows, each row with a caption, as one image.

It is an image and not a page, because everything opens one and every pixel of a picture stands in it as it is. OpenCV draws names
in Latin, Greek, Cyrillic, Hebrew, Chinese, Japanese and Korean letters; captions begin with a number, by which other names are
found in the list that goes with the sheet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

CELL_MIN = 96
"""Side in pixels; smaller pictures are enlarged by a whole number, so that each of their pixels becomes a square."""
GAP = 6
MARGIN = 16
LINE = 34
"""Height of a line of text."""
TEXT = 16
"""Size of the letters in pixels."""
INK, PAPER = (32, 32, 32), 255


@dataclass(frozen=True)
class SheetRow:
    """Pictures side by side."""

    caption: str
    pictures: NDArray[np.uint8]
    """(K, H, W, C), RGB or grey."""


def contact_sheet(rows: Sequence[SheetRow], headings: Sequence[str]) -> NDArray[np.uint8]:
    """The sheet, (height, width, 3) uint8, RGB.

    Args:
        rows: At least one; all of the same shape.
        headings: One above each of the K columns.
    """
    count, side = rows[0].pictures.shape[:2]
    cell = side * enlargement(side)
    width, height = 2 * MARGIN + count * (cell + GAP) - GAP, 2 * MARGIN + LINE + len(rows) * (LINE + cell)
    sheet: NDArray[np.uint8] = np.full((height, width, 3), PAPER, np.uint8)
    lefts = [MARGIN + column * (cell + GAP) for column in range(count)]
    for left, heading in zip(lefts, headings, strict=True):
        _write(sheet[MARGIN : MARGIN + LINE, left : left + cell], heading)
    for number, row in enumerate(rows):
        top = MARGIN + LINE + number * (LINE + cell)
        _write(sheet[top : top + LINE, MARGIN : width - MARGIN], row.caption)
        for left, picture in zip(lefts, row.pictures, strict=True):
            sheet[top + LINE : top + LINE + cell, left : left + cell] = enlarge(picture)
    return sheet


def enlargement(side: int) -> int:
    """How many times as large as it is a picture is shown."""
    return max(1, -(-CELL_MIN // side))


def enlarge(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, C) as it stands in a sheet: each pixel a square."""
    factor = enlargement(picture.shape[0])
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def shrink(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """(H, W, C) with sides of at most `side` pixels, averaged."""
    if picture.shape[0] <= side:
        return picture
    smaller: NDArray[np.uint8] = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
    return smaller.reshape(side, side, picture.shape[2])


def _write(band: NDArray[np.uint8], text: str) -> None:
    """Draw one line of text; what does not fit is cut off."""
    line = np.full(band.shape, PAPER, np.uint8)
    cv2.putText(line, _drawable(text), (0, LINE - 10), INK, cv2.FontFace("sans"), TEXT)
    band[...] = line


def _drawable(text: str) -> str:
    """OpenCV ends the process when it is given half of a surrogate pair, and draws control characters as questions."""
    return "".join(character if character.isprintable() else "?" for character in text.encode("utf-8", "replace").decode())
