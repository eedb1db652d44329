"""The messages between a process and the child that decodes for it: two lengths, a header in JSON, and bytes.

The bytes of a request are the content of an image, or the place where it lies; those of an answer are a picture.
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict

from orchestrator.images.given import Given, Seen
from orchestrator.images.picture import PixelWork, StoredPicture
from orchestrator.images.verdict import Reason, Rejection

LENGTHS = struct.Struct("<IQ")
"""Bytes of the header and of what follows it."""
READY = LENGTHS.pack(0, 0)
"""Sent once by the child, when its libraries are loaded."""
REQUEST = struct.Struct("<?IQ")
"""Whether the bytes of a request are a place, and the lengths."""
PLACE = struct.Struct("<qQ")
"""First byte in the file, or WHOLE, and size; the path follows."""
WHOLE = -1
"""The file is the image."""


def work_to_header(work: PixelWork) -> bytes:
    return json.dumps(asdict(work)).encode()


def work_from_header(header: bytes) -> PixelWork:
    return PixelWork(**json.loads(header))


def request_to_message(header: bytes, given: Given) -> tuple[bytes, ...]:
    """A whole message, in parts: content is not copied."""
    if isinstance(given, bytes):
        return REQUEST.pack(False, len(header), len(given)) + header, given
    place = PLACE.pack(WHOLE if given.start is None else given.start, given.size) + given.path
    return (REQUEST.pack(True, len(header), len(place)) + header + place,)


def place_from_message(data: bytes) -> tuple[bytes, int, int]:
    """Path, first byte or WHOLE, and size."""
    start, size = PLACE.unpack_from(data)
    return data[PLACE.size :], start, size


def answer_to_message(seen: Seen | None) -> bytes:
    """A whole message: a picture's bytes behind the facts about it, or facts alone.

    `null` stands for an image that does not lie where it should.
    """
    facts: dict[str, object] | None = None
    data = b""
    if seen is not None:
        facts = {"size": seen.size, "sha256": seen.sha256}
        if isinstance(seen.result, Rejection):
            facts |= {"reason": seen.result.reason.value, "detail": seen.result.detail}
        else:
            facts |= {name: value for name, value in vars(seen.result).items() if name != "data"} | {"look": seen.result.look.hex()}
            data = seen.result.data
    header = json.dumps(facts).encode()
    return LENGTHS.pack(len(header), len(data)) + header + data


def answer_from_message(header: bytes, data: bytes) -> Seen | None:
    """Raises:
    KeyError, TypeError, ValueError: The message is not one that `answer_to_message` makes.
    """
    facts = json.loads(header)
    if facts is None:
        return None
    size, sha256 = facts["size"], facts["sha256"]
    del facts["size"], facts["sha256"]
    if "reason" in facts:
        return Seen(size, sha256, Rejection(Reason(facts["reason"]), facts["detail"]))
    sums, squares = tuple(facts.pop("sums")), tuple(facts.pop("squares"))
    return Seen(size, sha256, StoredPicture(data=data, look=bytes.fromhex(facts.pop("look")), sums=sums, squares=squares, **facts))
