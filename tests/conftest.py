"""What Ray must find before it is imported, for every test that uses it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from orchestrator.stages.environment import set_environment

os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.1")
set_environment(Path(tempfile.mkdtemp(prefix="orchestrator-tests-")) / "ray_token")
