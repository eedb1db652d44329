"""Contact sheets show the pixels they are given, whatever is written beside them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from orchestrator.images.sheet import CELL_MIN, GAP, LINE, MARGIN, SheetRow, contact_sheet, shrink


def make_rows(side: int, channels: int, captions: tuple[str, ...] = ("1   cat", "2   dog")) -> list[SheetRow]:
    rng = np.random.default_rng(side)
    return [SheetRow(caption, rng.integers(0, 256, (3, side, side, channels), np.uint8)) for caption in captions]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [8, 28, 95, 96, 224])
def test_every_pixel_of_every_picture_stands_in_the_sheet(side: int, channels: int) -> None:
    """Large pictures as they are, small ones with each pixel as a square; nothing is resampled, and a PNG keeps it."""
    rows = make_rows(side, channels)
    sheet = contact_sheet(rows, ["evaluated", "epoch 1", "epoch 2"])
    factor = max(1, -(-CELL_MIN // side))
    cell = factor * side
    for number, row in enumerate(rows):
        top = MARGIN + LINE + number * (LINE + cell) + LINE
        for column, picture in enumerate(row.pictures):
            left = MARGIN + column * (cell + GAP)
            shown = sheet[top : top + cell, left : left + cell]
            for down in range(factor):
                for right in range(factor):
                    assert np.array_equal(shown[down::factor, right::factor], np.broadcast_to(picture, (side, side, 3)))
    assert cv2.imdecode(cv2.imencode(".png", sheet)[1], cv2.IMREAD_COLOR).shape == sheet.shape


@pytest.mark.parametrize("name", ["Кошка", "猫", "고양이", "קט", "แมว", "🐈", "half \udce9 of a pair", "\x1b[2J\n\0", "", "long " * 10_000])
def test_any_caption_leaves_the_pictures_alone(name: str) -> None:
    """Letters that OpenCV has, that it has not, and that would end the process; the same sheet each time."""
    rows = make_rows(96, 3, (name, "2   dog"))
    sheet = contact_sheet(rows, ["evaluated", name, "epoch 2"])
    plain = contact_sheet([SheetRow("", row.pictures) for row in rows], ["", "", ""])
    different = np.flatnonzero((sheet != plain).any(axis=(1, 2)))
    text = [*range(MARGIN, MARGIN + 2 * LINE), *range(MARGIN + 2 * LINE + 96, MARGIN + 3 * LINE + 96)]
    assert set(different.tolist()) <= set(text)
    assert np.array_equal(sheet, contact_sheet(rows, ["evaluated", name, "epoch 2"]))


def test_names_are_drawn_in_their_own_letters() -> None:
    """No two names of other scripts look alike, so they are not drawn as questions."""
    names = ("Кошка", "Собака", "猫", "犬", "고양이", "Γάτα")
    bands = {contact_sheet(make_rows(96, 3, (name,)), ["", "", ""])[: MARGIN + 2 * LINE].tobytes() for name in names}
    assert len(bands) == len(names)


@pytest.mark.parametrize("channels", [1, 3])
def test_shrinking_averages_and_never_enlarges(channels: int) -> None:
    """A picture twice as large becomes the means of its squares; a small one stays as it is."""
    picture = np.arange(4 * 4 * channels, dtype=np.uint8).reshape(4, 4, channels) * 2
    means = picture.reshape(2, 2, 2, 2, channels).mean(axis=(1, 3))
    assert np.array_equal(shrink(picture, 2), means.astype(np.uint8))
    assert shrink(picture, 4) is picture
