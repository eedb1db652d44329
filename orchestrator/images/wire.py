"""The messages between a process and the child that decodes for it: two lengths, a header in JSON, and bytes."""

from __future__ import annotations

import json
import struct
from dataclasses import asdict

from orchestrator.images.picture import PixelWork, StoredPicture
from orchestrator.images.verdict import Reason, Rejection

LENGTHS = struct.Struct("<IQ")
"""Bytes of the header and of what follows it."""
READY = LENGTHS.pack(0, 0)
"""Sent once by the child, when its libraries are loaded."""


def work_to_header(work: PixelWork) -> bytes:
    return json.dumps(asdict(work)).encode()


def work_from_header(header: bytes) -> PixelWork:
    return PixelWork(**json.loads(header))


def result_to_message(result: StoredPicture | Rejection) -> bytes:
    """A whole message: a picture's bytes behind the facts about it, or a rejection without any bytes."""
    if isinstance(result, Rejection):
        facts, data = {"reason": result.reason.value, "detail": result.detail}, b""
    else:
        facts, data = {name: value for name, value in vars(result).items() if name != "data"} | {"look": result.look.hex()}, result.data
    header = json.dumps(facts).encode()
    return LENGTHS.pack(len(header), len(data)) + header + data


def result_from_message(header: bytes, data: bytes) -> StoredPicture | Rejection:
    """Raises:
    KeyError, TypeError, ValueError: The message is not one that `result_to_message` makes.
    """
    facts = json.loads(header)
    if "reason" in facts:
        return Rejection(Reason(facts["reason"]), facts["detail"])
    sums, squares = tuple(facts.pop("sums")), tuple(facts.pop("squares"))
    return StoredPicture(data=data, look=bytes.fromhex(facts.pop("look")), sums=sums, squares=squares, **facts)
