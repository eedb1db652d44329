"""The environment that Ray must find before it is imported."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

SETTINGS = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Otherwise a parent process called `uv run` makes Ray build a new environment for every worker.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.25",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "60",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    # What Ray Train decides with runs in the program itself, whose output is not for the log of it.
    "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0",
    # A thread that still asks Ray for something after the program left it must not start another one.
    "RAY_ENABLE_AUTO_CONNECT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # with it, Ray Tune prints on stdout whatever verbosity is asked for
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_DATA_EXECUTION_NO_PROGRESS_TIMEOUT_S": "300",
    # What was started ahead, or has worked for the stage before, is still there when it is wanted; of more than a few
    # processes Ray would end those that were idle for a second.
    "RAY_idle_worker_killing_time_threshold_ms": "30000",
    "RAY_GRAFANA_HOST": "DISABLED",
    # glibc otherwise gives the memory of every decoded image back to the system, which maps and zeroes it anew for the next one:
    # a third of the CPU time of decoding. Once told to keep memory it no longer learns which sizes come again, and does the same to
    # what is larger than 128 KiB until it is told that as well: a fifth of the CPU time of training.
    "MALLOC_TOP_PAD_": str(64 << 20),
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),  # the most that glibc takes
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
}
"""Defaults; what the user has set in the environment wins."""


def set_environment(token: Path) -> None:
    """Set what Ray reads when it is imported and when it starts processes.

    Args:
        token: File of the cluster's secret; made here, readable by its owner alone, because Ray would make it readable by everybody.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    if os.environ["RAY_AUTH_MODE"] == "token" and not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ):
        _make_token(token)
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(token)


def _make_token(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        path.chmod(0o600)
        return
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(32))
