"""What decides the pixels that come out of a source image, besides the job."""

from __future__ import annotations

import cv2

PIXEL_CODE = 5
"""Raised whenever the same image file would give another stored row."""


def pixel_versions() -> dict[str, object]:
    """Part of the fingerprint of prepared data."""
    return {"pixel_code": PIXEL_CODE, "opencv": cv2.__version__}
