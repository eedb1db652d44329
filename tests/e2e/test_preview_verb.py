"""preview, as a user types it."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from shell import Shell

from orchestrator.testing import write_bad_images, write_image_folder


def test_a_sheet_comes_before_anything_is_prepared(shell: Shell) -> None:
    """It needs neither Ray nor torch, leaves one file, and prints its path and what is on it; a bad image is one line on stderr."""
    shell.write_job()
    write_image_folder(shell.place / "images", classes=("猫",), images_per_class=2, size=16)
    (shell.place / "images" / "猫" / "00002.png").write_bytes(b"")
    blocked = shell.place / "blocked"
    blocked.mkdir()
    for library in ("ray", "torch"):
        (blocked / f"{library}.py").write_text("raise ImportError('it is not needed')\n")
    shell.environment["PYTHONPATH"] = str(blocked)
    before = set(shell.place.iterdir())

    done = shell("preview", "job.yaml", "augment=[horizontal_flip]", "--images", "9", "data.split={validation: 0, test: 0}")
    assert done.returncode == 0, done.stderr
    sheet = shell.place / "shapes.preview.png"
    assert set(shell.place.iterdir()) - before == {sheet}
    *lines, path = done.stdout.splitlines()
    assert path == str(sheet)
    assert [line.split()[0] for line in lines] == [str(number) for number in range(1, 10)]
    assert {line.split()[1] for line in lines} == {"disc", "ring", "square", "猫"}
    assert done.stderr == "skipped 猫/00002.png, empty_file: the file has no content\n"
    assert cv2.imdecode(np.fromfile(sheet, np.uint8), cv2.IMREAD_COLOR).shape[0] > 9 * 96

    told = json.loads(shell("preview", "job.yaml", "--json", "--out", "elsewhere/one.PNG", "--images", "1").stdout)
    assert told["file"] == str(shell.place / "elsewhere" / "one.PNG")
    assert (told["epochs"], len(told["images"])) == (2, 1)
    assert (shell.place / "elsewhere" / "one.PNG").stat().st_size > 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--images", "0"], 2, "--images"),
        (["--epochs", "21"], 2, "--epochs"),
        (["--out", "sheet.jpg"], 2, "--out sheet.jpg: the sheet is a PNG file"),
        (["--out", "job.yaml/sheet.png"], 6, "cannot write"),
        (["data.source=nowhere"], 2, "nowhere: no such folder"),
        (["data.source=bad"], 1, "training images in"),
        (["augment=[{entry: 'nowhere:fade'}]"], 1, "the transform nowhere:fade cannot be imported"),
        (["augment=[{entry: 'mine:fail'}]"], 1, "the transform mine:fail failed: ZeroDivisionError"),
    ],
)
def test_what_cannot_be_shown_is_one_message(shell: Shell, arguments: list[str], code: int, message: str) -> None:
    """With the exit code of its kind, and no sheet."""
    shell.write_job(images_per_class=3)
    write_bad_images(shell.place / "bad" / "one")
    write_bad_images(shell.place / "bad" / "two")
    (shell.place / "mine.py").write_text("def fail(image, rng):\n    return image // (1 / 0)\n")
    done = shell("preview", "job.yaml", *arguments)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not list(shell.place.glob("**/*preview.png"))
