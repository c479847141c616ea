"""Damage to what is at rest: what a disk, a cable or a hand can make of a segment's file."""

import random
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import crc32c

from kvstore.codec import PAGE, header_nbytes
from kvstore.types import SegmentSpec

_FIELDS = {
    "magic": (0, 8), "version": (8, 4), "size": (12, 4), "placement": (16, 8), "digest": (24, 32),
    "parent": (56, 32), "tag": (88, 8), "tenant": (96, 8), "layers": (104, 4), "heads": (108, 4),
    "tokens": (112, 4), "head_dim": (116, 4), "dtype": (120, 4),
}  # fmt: skip
"""Offset and size of what a header says (`kvstore/codec.py`); checksums of the layers follow."""
_CRCS_AT = 128
_SECTOR = 512


@dataclass(frozen=True, slots=True)
class Victim:
    """A sound file, and another version of it: same segment, other bits, checksums to match."""

    spec: SegmentSpec
    path: Path
    data: bytes
    payload: bytes
    version: bytes

    @property
    def start(self) -> int:
        """Of the payload."""
        return header_nbytes(self.spec.layout.num_layers)


Damage = Callable[[random.Random, Victim, Sequence[Victim]], bytes]
"""What becomes of the victim's file, given all the files that there are."""


def damaged(kind: Damage, rng: random.Random, victim: Victim, victims: Sequence[Victim]) -> bytes:
    """A damage that leaves the bytes as they were is none: another is tried."""
    while (data := kind(rng, victim, victims)) == victim.data:
        pass
    return data


def _flip(data: bytes, rng: random.Random, start: int, stop: int) -> bytes:
    at = rng.randrange(start, stop)
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def _flip_in_header(rng: random.Random, victim: Victim, _: Sequence[Victim]) -> bytes:
    return _flip(victim.data, rng, 0, victim.start)


def _flip_in_payload(rng: random.Random, victim: Victim, _: Sequence[Victim]) -> bytes:
    return _flip(victim.data, rng, victim.start, len(victim.data))


def _run(rng: random.Random, victim: Victim) -> tuple[int, int]:
    """Somewhere in the file, two bytes to two pages long; short ones are as likely as long ones."""
    length = int(2 ** rng.uniform(1, 13))
    start = rng.randrange(len(victim.data) - 1)
    return start, min(start + length, len(victim.data))


def _random_burst(rng: random.Random, victim: Victim, _: Sequence[Victim]) -> bytes:
    start, stop = _run(rng, victim)
    return victim.data[:start] + rng.randbytes(stop - start) + victim.data[stop:]


def _zero_burst(rng: random.Random, victim: Victim, _: Sequence[Victim]) -> bytes:
    start, stop = _run(rng, victim)
    return victim.data[:start] + bytes(stop - start) + victim.data[stop:]


def _repeated_burst(rng: random.Random, victim: Victim, _: Sequence[Victim]) -> bytes:
    """A run is what the run before it is, as when a block is written twice."""
    start, stop = _run(rng, victim)
    before = victim.data[max(0, 2 * start - stop) : start]
    return victim.data[:start] + before + victim.data[start + len(before) :]


def _truncation(rng: random.Random, victim: Victim, _: Sequence[Victim]) -> bytes:
    return victim.data[: rng.randrange(len(victim.data))]


def _growth(rng: random.Random, victim: Victim, _: Sequence[Victim]) -> bytes:
    more = rng.choice((1, 7, _SECTOR, PAGE))
    return victim.data + rng.choice((bytes(more), rng.randbytes(more), victim.data[-more:]))


def _swapped_layers(rng: random.Random, victim: Victim, _: Sequence[Victim]) -> bytes:
    size = victim.spec.layout.layer_nbytes
    a, b = (victim.start + size * n for n in _two_layers(rng, victim))
    return _swapped(victim.data, a, b, size)


def _swapped_layers_with_checksums(
    rng: random.Random, victim: Victim, _: Sequence[Victim]
) -> bytes:
    """Each layer takes its checksum along, under a header that is right."""
    size, (i, j) = victim.spec.layout.layer_nbytes, _two_layers(rng, victim)
    data = _swapped(victim.data, victim.start + size * i, victim.start + size * j, size)
    return _sealed(victim, _swapped(data, _CRCS_AT + 4 * i, _CRCS_AT + 4 * j, 4))


def _header_field(rng: random.Random, victim: Victim, _: Sequence[Victim]) -> bytes:
    offset, size = rng.choice([*_FIELDS.values(), (_CRCS_AT, 4)])
    old = victim.data[offset : offset + size]
    near = bytes([(old[0] + rng.choice((-1, 1))) % 256]) + old[1:]
    new = rng.choice((near, rng.randbytes(size), bytes(size)))
    return victim.data[:offset] + new + victim.data[offset + size :]


def _sealed_header_field(rng: random.Random, victim: Victim, victims: Sequence[Victim]) -> bytes:
    """A wrong header with a right checksum."""
    return _sealed(victim, _header_field(rng, victim, victims))


def _file_of_another_key(rng: random.Random, victim: Victim, victims: Sequence[Victim]) -> bytes:
    return rng.choice([v for v in victims if v is not victim]).data


def _sectors_of_another_version(rng: random.Random, victim: Victim, _: Sequence[Victim]) -> bytes:
    """Some are of an earlier write of the same segment, but not all."""
    data, starts = bytearray(victim.data), range(0, len(victim.data), _SECTOR)
    for start in rng.sample(starts, rng.randrange(1, len(starts))):
        data[start : start + _SECTOR] = victim.version[start : start + _SECTOR]
    return victim.data if data == victim.version else bytes(data)


def _two_layers(rng: random.Random, victim: Victim) -> list[int]:
    return rng.sample(range(victim.spec.layout.num_layers), 2)


def _swapped(data: bytes, a: int, b: int, size: int) -> bytes:
    new = bytearray(data)
    new[a : a + size], new[b : b + size] = data[b : b + size], data[a : a + size]
    return bytes(new)


def _sealed(victim: Victim, data: bytes) -> bytes:
    body = data[: victim.start - 4]
    return body + struct.pack("<I", crc32c.crc32c(body)) + data[victim.start :]


KINDS: Mapping[str, Damage] = {
    "bit flip in the header": _flip_in_header,
    "bit flip in the payload": _flip_in_payload,
    "burst of random bytes": _random_burst,
    "burst of zeros": _zero_burst,
    "burst of repeated bytes": _repeated_burst,
    "truncation": _truncation,
    "growth": _growth,
    "layers swapped": _swapped_layers,
    "layers swapped with their checksums": _swapped_layers_with_checksums,
    "header field": _header_field,
    "header field under a right checksum": _sealed_header_field,
    "file of another key": _file_of_another_key,
    "sectors of another version": _sectors_of_another_version,
}
