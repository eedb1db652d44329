"""Functions of the user's own, named `module:function` in the job file and imported where they are called."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import sysconfig
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from orchestrator.errors import TrainingError

Function = Callable[..., Any]
INSTALLED, LIBRARIES = "site-packages", ("torch", "numpy", "ray")
"""The folder of installed packages, and those in it that nobody looks for mistakes in."""


@cache
def import_function(entry: str, role: str) -> Function:
    """The function that `module:function` names, from the installed packages or the working directory.

    Args:
        entry: The name.
        role: What the function is to the user, as `transform`; errors begin with it.

    Raises:
        TrainingError: There is no such function, or its module fails when it is imported.
    """
    module, _, name = entry.partition(":")
    here = _look_here_too()
    try:
        function = getattr(importlib.import_module(module), name)
    except Exception as error:
        advice = f"it is looked for in the installed packages and in {here}; both must be the same on every machine"
        raise TrainingError(f"the {role} {entry} cannot be imported: {described(error)}", advice) from error
    if not callable(function):
        raise TrainingError(f"the {role} {entry} is {type(function).__name__}, not a function")
    return function  # type: ignore[no-any-return]  # checked by calling it


def is_there(entry: str) -> bool:
    """Whether there is a module, or the package that it belongs to, from which `import_function` could take the function."""
    _look_here_too()
    package = entry.partition(":")[0].partition(".")[0]
    return package in sys.modules or importlib.util.find_spec(package) is not None


def _look_here_too() -> str:
    """The working directory: `python -m` and Ray's workers look there, an installed command does not."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    return here


def described(error: BaseException) -> str:
    """The error and the line it comes from, as one line: the user's that led to it, where there is one."""
    frames = traceback.extract_tb(error.__traceback__)
    frame = next((frame for frame in reversed(frames) if _is_users(frame.filename)), frames[-1] if frames else None)
    said = ": ".join(filter(None, (type(error).__name__, " ".join(str(error).split()))))
    return f"{said} ({frame.filename}:{frame.lineno})" if frame else said


def _is_users(file: str) -> bool:
    """Whether the user may have written it."""
    _, installed, package = file.rpartition(f"/{INSTALLED}/")
    if installed:
        return package.partition("/")[0] not in LIBRARIES
    return not file.startswith((f"{Path(__file__).parent}/", f"{sysconfig.get_path('stdlib')}/", "<"))
