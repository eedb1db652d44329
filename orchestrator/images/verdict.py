"""Why an image was not taken: stable codes that other programs may rely on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """The codes of `rejects.parquet`."""

    EMPTY_FILE = "empty_file"
    NOT_AN_IMAGE = "not_an_image"
    FORMAT_NOT_ALLOWED = "format_not_allowed"
    TRUNCATED = "truncated"
    CORRUPT = "corrupt"
    TOO_LARGE = "too_large"
    ANIMATED = "animated"


@dataclass(frozen=True)
class Rejection:
    """An image that was not taken."""

    reason: Reason
    detail: str
