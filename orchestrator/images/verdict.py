"""Why an image was not taken: stable codes that other programs may rely on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """The codes of `rejects.parquet`; VERDICTS.md shows which input gets which."""

    MISSING = "missing"
    EMPTY_FILE = "empty_file"
    NOT_AN_IMAGE = "not_an_image"
    FORMAT_NOT_ALLOWED = "format_not_allowed"
    TRUNCATED = "truncated"
    CORRUPT = "corrupt"
    TOO_LARGE = "too_large"
    ANIMATED = "animated"
    DEGENERATE_SIZE = "degenerate_size"
    DECODE_TIMEOUT = "decode_timeout"
    DECODE_OOM = "decode_oom"
    DECODER_CRASH = "decoder_crash"


@dataclass(frozen=True)
class Rejection:
    """An image that was not taken."""

    reason: Reason
    detail: str
