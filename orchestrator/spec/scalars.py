"""What a word of a job file means: the scalars of the YAML 1.2 core schema, and the characters that may not stand in it."""

from __future__ import annotations

import re

Scalar = str | int | float | bool | None

NULL = re.compile(r"(?:~|null|Null|NULL|)\Z")
BOOLEAN = re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z")
INTEGER = re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z")
FLOAT = re.compile(r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z")

INTEGER_MAX = 2**63 - 1
INTEGER_DIGITS_MAX = len(str(INTEGER_MAX))

HIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff]")
"""Characters that show nothing or reorder what is shown: controls, bidirectional overrides, halves of surrogate pairs."""


def core_scalar(text: str) -> Scalar:
    """The value of a plain word: `3e-4` is a number, `no` and `12:30:45` are text.

    Raises:
        ValueError: A whole number that does not fit 64 bits.
    """
    if NULL.match(text):
        return None
    if BOOLEAN.match(text):
        return text.lower() == "true"
    if INTEGER.match(text):
        return _integer(text)
    if FLOAT.match(text):
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text


def _integer(text: str) -> int:
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    digits = text[2:] if base != 10 else text  # noqa: PLR2004 -- the base of our digits
    if len(digits.lstrip("+-0")) <= INTEGER_DIGITS_MAX * 2:
        value = int(digits, base)
        if abs(value) <= INTEGER_MAX:
            return value
    raise ValueError(f"whole numbers go up to {INTEGER_MAX}")
