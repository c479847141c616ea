"""How deletions are written down, and what of a list that was damaged can still be read.

    little-endian

    offset   size  what
    0           8  magic b"HRDELETE"
    8           4  version, u32 = 2
    12          4  CRC32C of the bytes before it
    then records, each of
    0           4  magic b"DELR"
    4           4  size of the body in bytes, u32
    8           4  CRC32C of the bytes before it
    12          1  tier, u8: 0 ssd, 1 remote
    13          3  zero
    16          4  number of tags, u32
    20          4  number of keys, u32
    24          8 x tags, then 40 x keys (placement, digest)
    ...         4  CRC32C of the body before it
    ...         8  mark b"HRNOTED\\n", written when the record was on the disk

A deletion is acknowledged when its record is on the disk. So bytes at the end that are neither a
record nor a mark are of one that never was acknowledged: of a write that was cut short. Such bytes
before a whole record, or before a mark, were a record, and may have named anything.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import crc32c

from kvstore.types import SegmentKey, TierName

_HEAD = struct.Struct("<8sI")
_MAGIC, _VERSION = b"HRDELETE", 2
_CRC = struct.Struct("<I")
_SIZE = struct.Struct("<4sI")
_RECORD = b"DELR"
_START_BYTES = _SIZE.size + _CRC.size
_BODY = struct.Struct("<B3xII")
_TAG_BYTES = 8
_KEY_BYTES = 40
_TIERS: tuple[TierName, ...] = ("ssd", "remote")
MARK = b"HRNOTED\n"


@dataclass(frozen=True, slots=True)
class Deletion:
    """Passages of which a tier may still have something."""

    tier: TierName
    version: int
    """Of the tier's tombstones, in this process."""
    tags: tuple[bytes, ...]
    keys: tuple[SegmentKey, ...]
    """Segments that go with them, as far as they were known."""


@dataclass(frozen=True, slots=True)
class Found:
    """In a list, or where there is none."""

    deletions: tuple[Deletion, ...] = ()
    """With version 0."""
    damage: str = ""
    """What is wrong, where there were other deletions, or may have been."""


def header() -> bytes:
    return _checked(_HEAD.pack(_MAGIC, _VERSION))


def encode(deletion: Deletion) -> bytes:
    """Without the mark."""
    tags, keys = deletion.tags, deletion.keys
    body = _BODY.pack(_TIERS.index(deletion.tier), len(tags), len(keys)) + b"".join(tags)
    body += b"".join(key.placement + key.digest for key in keys)
    return _checked(_SIZE.pack(_RECORD, len(body))) + _checked(body)


def decode(data: bytes) -> Found:
    """All that is whole."""
    found, damage, gap = list[Deletion](), "", -1
    if not data.startswith(header()):
        damage = "is no list of deletions of this version"
    at = 0 if damage else len(header())
    while at < len(data):
        start, at = at, _end_of_item(data, at)
        deletion = _deletion(data[start:at])
        if deletion is None and data[start:at] != MARK:
            gap = start if gap < 0 else gap
            continue
        if gap >= 0 and not damage:
            damage = f"is damaged at byte {gap}"
        gap = -1
        if deletion is not None:
            found.append(deletion)
    return Found(tuple(found), damage)


def _end_of_item(data: bytes, at: int) -> int:
    """Of a mark, of a record by its size, or of what is neither."""
    if data.startswith(MARK, at):
        return at + len(MARK)
    start = data[at : at + _START_BYTES]
    if start.startswith(_RECORD) and _is_checked(start):
        nbytes: int = _SIZE.unpack_from(start)[1]
        return min(len(data), at + _START_BYTES + nbytes + _CRC.size)
    nexts = [data.find(magic, at + 1) for magic in (MARK, _RECORD)]
    return min((found for found in nexts if found >= 0), default=len(data))


def _deletion(item: bytes) -> Deletion | None:
    """None for what is no whole record."""
    start, body = item[:_START_BYTES], item[_START_BYTES : -_CRC.size]
    if not start.startswith(_RECORD) or not _is_checked(start):
        return None
    is_whole = len(body) == _SIZE.unpack_from(start)[1] >= _BODY.size
    if not is_whole or not _is_checked(item[_START_BYTES:]):
        return None
    tier, num_tags, num_keys = _BODY.unpack_from(body)
    keys_at = _BODY.size + num_tags * _TAG_BYTES
    if tier >= len(_TIERS) or len(body) != keys_at + num_keys * _KEY_BYTES:
        return None
    tags = _cut(body[_BODY.size : keys_at], _TAG_BYTES)
    keys = (SegmentKey(key[:8], key[8:]) for key in _cut(body[keys_at:], _KEY_BYTES))
    return Deletion(_TIERS[tier], 0, tuple(tags), tuple(keys))


def _cut(data: bytes, nbytes: int) -> Iterator[bytes]:
    return (data[i : i + nbytes] for i in range(0, len(data), nbytes))


def _checked(data: bytes) -> bytes:
    """Followed by its checksum."""
    return data + _CRC.pack(crc32c.crc32c(data))


def _is_checked(data: bytes) -> bool:
    return len(data) > _CRC.size and data == _checked(data[: -_CRC.size])
