"""A transform of the user's own, in the working directory of an installed command."""

from __future__ import annotations

from pathlib import Path

import pytest
from shell import Shell

MODULE = """\
from pathlib import Path

def fade(image, rng, seen):
    Path(seen).touch()
    return image // 2

def halve(image, rng):
    return image[::2]
"""


@pytest.fixture
def own(shell: Shell) -> Shell:
    """With a module that only the working directory has; the safe path keeps Python from looking there, as for an installed command."""
    shell.environment["PYTHONSAFEPATH"] = "1"
    shell.write_job(epochs=1)
    (shell.place / "my_transforms.py").write_text(MODULE)
    return shell


@pytest.mark.parametrize("engine", [["--in-process"], []], ids=["in-process", "ray"])
def test_a_module_of_the_working_directory_is_found(own: Shell, engine: list[str], tmp_path: Path) -> None:
    """In this process, and by Ray's workers; its mistakes end the run with a sentence that names the function."""
    seen = tmp_path / "seen"
    done = own("train", "job.yaml", f"augment=[{{entry: 'my_transforms:fade', kwargs: {{seen: '{seen}'}}}}]", *engine)
    assert done.returncode == 0, done.stderr
    assert seen.exists()

    done = own("train", "job.yaml", "augment=[{entry: 'my_transforms:halve'}]", *engine)
    assert done.returncode == 1
    assert "the transform my_transforms:halve returned uint8 (8, 16, 3) for an image of uint8 (16, 16, 3)" in done.stderr
    assert "Traceback" not in done.stderr
