"""The user's own transform: called, checked, and named when it is at fault."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from orchestrator.entry import import_function
from orchestrator.errors import TrainingError
from orchestrator.images.augment import augmentation_rng
from orchestrator.images.entry import Entry

MODULE = """\
import numpy as np

def fade(image, rng, strength=1.0):
    image[:] = image * (1 - strength * rng.random())
    return image

def smaller(image, rng):
    return image[1:]

def floats(image, rng):
    return image / 255

def nothing(image, rng):
    pass

def fails(image, rng):
    raise ValueError("no such luck")

def asserts(image, rng):
    assert image is None

number = 3
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module in the working directory, which is not on the path."""
    (tmp_path / "own_transforms.py").write_text(MODULE)
    (tmp_path / "broken_transforms.py").write_text("import a_library_that_is_not_there\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    import_function.cache_clear()
    yield
    import_function.cache_clear()
    sys.modules.pop("own_transforms", None)


def image() -> np.ndarray:
    return np.full((6, 5, 3), 200, np.uint8)


def test_it_is_called_with_image_randomness_and_kwargs() -> None:
    """It may write to its image: the one that is passed to the step stays as it is."""
    given = image()
    changed = Entry("own_transforms:fade", {"strength": 0.5}).apply(given, augmentation_rng(1, 2, b"x"))
    expected = (image() * (1 - 0.5 * augmentation_rng(1, 2, b"x").random())).astype(np.uint8)
    np.testing.assert_array_equal(changed, expected)
    np.testing.assert_array_equal(given, image())


def test_nothing_is_imported_before_it_is_applied() -> None:
    """A step travels to the workers as a name."""
    step = pickle.loads(pickle.dumps(Entry("own_transforms:fade")))  # noqa: S301 -- our own
    assert "own_transforms" not in sys.modules
    step.apply(image(), np.random.default_rng(0))
    assert "own_transforms" in sys.modules


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        ("own_transforms:smaller", r"the transform own_transforms:smaller returned uint8 \(5, 5, 3\) for an image of uint8 \(6, 5, 3\)"),
        ("own_transforms:floats", r"own_transforms:floats returned float64 \(6, 5, 3\)"),
        ("own_transforms:nothing", "own_transforms:nothing returned NoneType"),
        ("own_transforms:fails", r"own_transforms:fails failed: ValueError: no such luck \(.*own_transforms.py:17\)"),
        ("own_transforms:asserts", r"own_transforms:asserts failed: AssertionError \(.*own_transforms.py:20\)"),
        ("own_transforms:number", "own_transforms:number is int, not a function"),
        ("own_transforms:fede", "own_transforms:fede cannot be imported: AttributeError: .* has no attribute 'fede'"),
        ("not_there.at_all:fade", "not_there.at_all:fade cannot be imported: ModuleNotFoundError: No module named 'not_there'"),
        ("broken_transforms:fade", r"cannot be imported: ModuleNotFoundError: No module named 'a_library_.*broken_transforms.py:1\)"),
    ],
)
def test_what_is_wrong_with_it_is_one_error_that_names_it(entry: str, found: str) -> None:
    """Another shape, another type, an exception of its own, or no such function."""
    with pytest.raises(TrainingError, match=found):
        Entry(entry).apply(image(), np.random.default_rng(0))


def test_wrong_kwargs_name_the_function() -> None:
    """A misspelled argument is told in Python's words."""
    with pytest.raises(TrainingError, match=r"own_transforms:fade failed: TypeError: .*strenth"):
        Entry("own_transforms:fade", {"strenth": 1}).apply(image(), np.random.default_rng(0))
