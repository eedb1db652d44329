"""prepare: listed images become committed shards."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from orchestrator.dataset.commit import Reject, UnitRecord, commit, completed_units, write_unit_record
from orchestrator.dataset.manifest import Manifest
from orchestrator.dataset.shards import ShardRows, write_shard
from orchestrator.dataset.units import ListedImage, Unit, read_unit
from orchestrator.errors import DataError, Interrupted
from orchestrator.images.decode import decode
from orchestrator.images.resize import fit_image
from orchestrator.images.store import encode
from orchestrator.images.verdict import Rejection
from orchestrator.record.journal import Journal
from orchestrator.spec.job import DataSpec
from orchestrator.stages.engine import Engine, PrepareWork
from orchestrator.stages.stopping import StopRequest
