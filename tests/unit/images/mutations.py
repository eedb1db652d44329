"""Image files damaged in the ways in which files are damaged, and in those that decoders fear."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence

import numpy as np

Mutation = Callable[[bytearray, np.random.Generator], None]
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
HEADER_BYTES = 64
SPLICE_BYTES = 400


def _place(data: bytearray, rng: np.random.Generator, end: int | None = None) -> int:
    return int(rng.integers(max(1, min(len(data), end or len(data)))))


def flip_bits(data: bytearray, rng: np.random.Generator) -> None:
    """One bit, or a few."""
    for _ in range(int(rng.choice([1, 1, 1, 4, 16]))):
        data[_place(data, rng)] ^= 1 << int(rng.integers(8))


def set_bytes(data: bytearray, rng: np.random.Generator) -> None:
    """A run of random bytes, of zeros or of ones."""
    place, length = _place(data, rng), int(rng.integers(1, 33))
    value = int(rng.integers(3))
    run = rng.bytes(length) if value == 0 else bytes([0 if value == 1 else 0xFF]) * length
    data[place : place + length] = run[: len(data) - place]


def cut(data: bytearray, rng: np.random.Generator) -> None:
    """The end is missing."""
    del data[_place(data, rng) :]


def delete_range(data: bytearray, rng: np.random.Generator) -> None:
    place = _place(data, rng)
    del data[place : place + int(rng.integers(1, SPLICE_BYTES))]


def insert_range(data: bytearray, rng: np.random.Generator) -> None:
    """A piece of the file once more, somewhere else."""
    start, place = _place(data, rng), _place(data, rng)
    data[place:place] = data[start : start + int(rng.integers(1, SPLICE_BYTES))]


def set_header_field(data: bytearray, rng: np.random.Generator) -> None:
    """A number of one, two or four bytes near the start, in either order, is as large or small as it can be."""
    form = str(rng.choice(["<B", ">H", "<H", ">I", "<I"]))
    place = _place(data, rng, HEADER_BYTES)
    field = struct.pack(form, int(rng.choice(EXTREMES)) % (1 << 8 * struct.calcsize(form)))
    data[place : place + len(field)] = field[: len(data) - place]


def change_length(data: bytearray, rng: np.random.Generator) -> None:
    """The length of a chunk of a PNG or WebP, or of a segment of a JPEG."""
    places = list(length_fields(bytes(data)))
    if not places:
        return
    place, form = places[int(rng.integers(len(places)))]
    (length,) = struct.unpack_from(form, data, place)
    largest = (1 << 8 * struct.calcsize(form)) - 1
    changed = int(rng.choice([length + 1, length - 1, length * 2, length // 2, 0, largest]))
    struct.pack_into(form, data, place, min(max(changed, 0), largest))


def length_fields(data: bytes) -> Iterator[tuple[int, str]]:
    """Where lengths stand, and their form."""
    if data.startswith(b"\x89PNG"):
        start, form, ahead, beyond = 8, ">I", 0, 12
    elif data.startswith(b"RIFF"):
        start, form, ahead, beyond = 12, "<I", 4, 8
    elif data.startswith(b"\xff\xd8"):
        start, form, ahead, beyond = 2, ">H", 2, 2
    else:
        return
    while start + ahead + struct.calcsize(form) <= len(data):
        yield start + ahead, form
        start += beyond + struct.unpack_from(form, data, start + ahead)[0]


MUTATIONS: tuple[Mutation, ...] = (flip_bits, set_bytes, cut, delete_range, insert_range, set_header_field, change_length)


def mutate(seeds: Sequence[bytes], rng: np.random.Generator) -> bytes:
    """A damaged file: one or several mutations of a seed, or the start of one seed with the end of another."""
    data = bytearray(seeds[int(rng.integers(len(seeds)))])
    if rng.random() < 1 / (1 + len(MUTATIONS)):
        other = seeds[int(rng.integers(len(seeds)))]
        data[_place(data, rng) :] = other[int(rng.integers(len(other))) :]
    for _ in range(int(rng.choice([1, 1, 1, 2, 4]))):
        if data:
            MUTATIONS[int(rng.integers(len(MUTATIONS)))](data, rng)
    return bytes(data)
