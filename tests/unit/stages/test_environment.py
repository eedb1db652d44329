"""The environment that Ray finds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.stages.environment import SETTINGS, set_environment

TURNS = """
import resource, threading
import numpy as np

faults = []

def turns():
    for _ in range(6):
        arrays = [np.ones(2**21, np.uint8) for _ in range(60)]
        del arrays
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)

thread = threading.Thread(target=turns)
thread.start()
thread.join()
print(faults[-1] - faults[0])
"""
"""Five times 120 MiB in arrays of 2 MiB, 30,720 pages, after a first time that does not count; Ray trains in such a thread."""


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without Ray's variables, restored after the test."""
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(os, "environ", dict(os.environ))


def test_the_token_is_made_once_and_readable_by_its_owner_alone(tmp_path: Path, untouched: None) -> None:
    """A long secret with mode 0600; a second start keeps it, and closes a file that was opened to others."""
    token = tmp_path / "config" / "token"
    set_environment(token)
    secret = token.read_text()
    token.chmod(0o644)
    del os.environ["RAY_AUTH_TOKEN_PATH"]
    set_environment(token)

    assert len(secret) == 64
    assert token.read_text() == secret
    assert token.stat().st_mode & 0o777 == 0o600
    assert os.environ["RAY_AUTH_TOKEN_PATH"] == str(token)
    assert os.environ["RAY_AUTH_MODE"] == "token"


@pytest.mark.parametrize("given", [{"RAY_AUTH_TOKEN": "x"}, {"RAY_AUTH_TOKEN_PATH": "/x"}, {"RAY_AUTH_MODE": "disabled"}])
def test_what_the_user_has_set_wins(tmp_path: Path, untouched: None, given: dict[str, str]) -> None:
    """No token of ours is made beside one that was given, or where authentication is off."""
    os.environ.update(given)
    set_environment(tmp_path / "token")

    assert not (tmp_path / "token").exists()
    assert {name: os.environ[name] for name in given} == given


def test_memory_that_is_needed_again_is_kept() -> None:
    """A thread that takes and frees the same arrays again and again is given hardly a new page after the first time."""
    settings = {name: value for name, value in SETTINGS.items() if name.startswith("MALLOC_")}
    done = subprocess.run([sys.executable, "-c", TURNS], env=os.environ | settings, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 30_720 / 10
