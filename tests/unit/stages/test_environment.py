"""The environment that Ray finds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.stages.environment import set_environment


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
