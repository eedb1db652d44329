"""Every kind of bad or odd image gets the verdict that VERDICTS.md promises."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from faulty_decoder import COMMAND
from source_files import encoded, plain
from verdict_cases import FAULTS, FILES, WORK, Case, render

import orchestrator.images
from orchestrator.images.complaints import weigh_complaints
from orchestrator.images.isolated import PictureProcess
from orchestrator.images.picture import PixelWork, StoredPicture, prepare_picture
from orchestrator.images.verdict import Reason, Rejection

VERDICTS = Path(orchestrator.images.__file__).with_name("VERDICTS.md")


@pytest.fixture(scope="module")
def pictures() -> Iterator[PictureProcess]:
    with PictureProcess() as process:
        yield process


@pytest.fixture(scope="module")
def faulty() -> Iterator[PictureProcess]:
    with PictureProcess(COMMAND) as process:
        yield process


def outcome(result: StoredPicture | Rejection) -> Reason | str:
    return result.reason if isinstance(result, Rejection) else result.kind


@pytest.mark.parametrize("case", FILES, ids=lambda case: case.name)
def test_every_file_gets_its_verdict(pictures: PictureProcess, case: Case) -> None:
    """The reason, or the kind of a picture that is taken."""
    (result,) = pictures.run([case.data], WORK)
    assert outcome(result) == case.outcome, result


@pytest.mark.parametrize("case", FAULTS, ids=lambda case: case.name)
def test_every_fault_of_a_decoder_gets_its_verdict(faulty: PictureProcess, case: Case) -> None:
    """The image is blamed, and those before and behind it are prepared as if nothing had happened."""
    before, blamed, *behind = faulty.run([encoded(".png"), case.data, encoded(".jpg"), encoded(".bmp")], WORK)
    assert outcome(blamed) == case.outcome, blamed
    assert [outcome(result) for result in (before, *behind)] == ["png rgb", "jpeg rgb", "bmp rgb"]


def test_every_reason_has_a_case() -> None:
    """Among the files or among the faults; an image that is not there has no bytes to give a verdict on."""
    assert {case.outcome for case in (*FILES, *FAULTS) if isinstance(case.outcome, Reason)} == set(Reason) - {Reason.MISSING}


def test_the_printed_table_is_up_to_date() -> None:
    """VERDICTS.md is what the cases say; `make verdicts` writes it."""
    assert VERDICTS.read_text(encoding="utf-8") == render()


@pytest.mark.parametrize("form", ["jpeg", "png", "png alpha", "webp", "webp alpha", "webp lossless", "bmp"])
def test_a_picture_cut_anywhere_is_rejected(pictures: PictureProcess, form: str) -> None:
    """At every byte: never a picture with its lower part missing."""
    whole = encoded(".bmp") if form == "bmp" else plain(form)
    end = len(whole) - (2 if form == "jpeg" else 12 if form.startswith("png") else 1)
    results = list(pictures.run((whole[:length] for length in range(end)), WORK))
    assert len(results) == end
    assert {outcome(result) for result in results} <= {Reason.EMPTY_FILE, Reason.NOT_AN_IMAGE, Reason.TRUNCATED}


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("", None),
        ("libpng warning: iCCP: known incorrect sRGB profile\n", None),
        ("libpng warning: iCCP: too short\nlibpng warning: Ignoring invalid time value\n", None),
        ("Warning: unknown JFIF revision number 2.01\n", None),
        ("libpng warning: tRNS: CRC error\n", Reason.CORRUPT),
        ("libpng warning: IDAT: CRC error\n", Reason.CORRUPT),
        ("libpng warning: iCCP: too short\nCorrupt JPEG data: bad Huffman code\n", Reason.CORRUPT),
        ("something that nobody has heard of", Reason.CORRUPT),
    ],
)
def test_complaints_about_pixels_count(said: str, reason: Reason | None) -> None:
    """Known ones about anything else do not, unknown ones do."""
    picture = prepare_picture(encoded(".png"), WORK)
    result = weigh_complaints(picture, said)
    assert result is picture if reason is None else isinstance(result, Rejection) and result.reason is reason


def test_a_rejection_repeats_what_the_decoder_said() -> None:
    """The reason stays, the detail grows, up to a limit."""
    rejection = Rejection(Reason.TRUNCATED, "png of 4 x 4")
    assert weigh_complaints(rejection, "libpng error: Read Error\n") == Rejection(
        Reason.TRUNCATED, "png of 4 x 4; libpng error: Read Error"
    )
    assert len(weigh_complaints(rejection, "x" * 10_000).detail) == 200


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("store", ["original", "jpeg", "png", "raw"])
def test_sums_are_exact_and_originals_are_kept(store: str, channels: int) -> None:
    """Sums and sums of squares are those of the stored pixels; `original` keeps the file as it is."""
    work = PixelWork(size=40, channels=channels, fit="squash", store=store, jpeg_quality=95, max_pixels=10_000)
    source = cv2.imencode(".png", np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))[1].tobytes()
    picture = prepare_picture(source, work)
    reference = prepare_picture(source, replace(work, store="raw"))
    assert isinstance(picture, StoredPicture)
    assert isinstance(reference, StoredPicture)
    pixels = np.frombuffer(reference.data, np.uint8).reshape(-1, channels).astype(np.int64)
    assert (picture.pixels, picture.sums, picture.squares) == (1600, tuple(pixels.sum(axis=0)), tuple((pixels**2).sum(axis=0)))
    assert (picture.data == source) == (store == "original")
