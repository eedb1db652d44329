"""The limit of ingest does the work that training reads, and loaders are asked for the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bare_crop import run_bare_crops
from crop import SIZE, crop_into, empty_batch
from ingest_once import job_of
from loaders import Order, run_loader, torch_batches
from consume import Course, consume
from pictures import QUALITY, list_pictures, write_pictures
from tars import write_tars
