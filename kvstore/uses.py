"""The file that keeps what the eviction policies learned over a restart.

    <ssd_dir>/USES, little-endian

    offset   size  what
    0           8  magic b"HRUSES\\0\\0"
    8           4  version, u32 = 1
    12          4  number of records, u32
    16          8  when it was written, f64, seconds since the epoch
    then records, of each tier the most recently used first
    0          40  key (placement, digest)
    40          1  tier, u8: 0 dram, 1 ssd
    41          3  zero
    44          4  how often it was computed, u32
    48          8  uses, u64
    56          8  what computing took, f64, seconds per token, summed
    at the end  4  CRC32C of all before it

It decides what is evicted first and nothing else. One that is lost or damaged is written anew.
"""

import math
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import crc32c

from kvstore.policies.nodes import History
from kvstore.tiers.durable import read_file, replace_file
from kvstore.tiers.files import Files
from kvstore.types import SegmentKey, TierName

NAME = "USES"
MAX_RECORDS = 65_536
"""Of one tier."""
_MAGIC = b"HRUSES\0\0"
_VERSION = 1
_HEAD = struct.Struct("<8sIId")
_RECORD = struct.Struct("<8s32sB3xIQd")
_CRC = struct.Struct("<I")
_TIERS: tuple[TierName, ...] = ("dram", "ssd")
_MAX_BYTES = _HEAD.size + len(_TIERS) * MAX_RECORDS * _RECORD.size + _CRC.size
_MAX_COMPUTED = 2**32 - 1

Remembered = tuple[SegmentKey, History]


class DamagedUsesError(ValueError):
    """A file that is not as it was written."""


@dataclass(frozen=True, slots=True)
class Uses:
    """What was learned of the segments of each tier, the most recently used first."""

    tiers: Mapping[TierName, Sequence[Remembered]]
    written_at: float = 0.0
    """Seconds since the epoch."""


class UsesFile:
    """For one thread at a time. Its calls take as long as the disk does."""

    def __init__(self, folder: Path, files: Files) -> None:
        self._path = folder / NAME
        self._files = files
        self._written: int | None = None

    def load(self) -> Uses:
        """Raises OSError, and DamagedUsesError."""
        data = read_file(self._files, self._path, _MAX_BYTES)
        return Uses({}) if data is None else decode(data)

    def save(self, tiers: Mapping[TierName, Sequence[Remembered]]) -> None:
        """Unless they are as they were saved last. Raises OSError; then the file has what it
        had."""
        records = b"".join(
            _encode(tier, key, history) for tier in _TIERS for key, history in tiers.get(tier, ())
        )
        digest = crc32c.crc32c(records)
        if digest == self._written:
            return
        num_records = len(records) // _RECORD.size
        data = _HEAD.pack(_MAGIC, _VERSION, num_records, time.time()) + records
        replace_file(self._files, self._path, data + _CRC.pack(crc32c.crc32c(data)))
        self._written = digest


def decode(data: bytes) -> Uses:
    """Raises DamagedUsesError."""
    body, crc = memoryview(data)[: -_CRC.size], data[-_CRC.size :]
    if len(body) < _HEAD.size or crc != _CRC.pack(crc32c.crc32c(body)):
        raise DamagedUsesError("has a wrong checksum")
    magic, version, num_records, written_at = _HEAD.unpack_from(body)
    if (magic, version) != (_MAGIC, _VERSION):
        raise DamagedUsesError("is none of this version")
    if len(body) != _HEAD.size + num_records * _RECORD.size:
        raise DamagedUsesError(f"has not {num_records} records")
    found: dict[TierName, list[Remembered]] = {tier: [] for tier in _TIERS}
    for placement, digest, tier, computed, uses, cost in _RECORD.iter_unpack(body[_HEAD.size :]):
        if tier >= len(_TIERS) or not math.isfinite(cost):
            raise DamagedUsesError("has a record that is none")
        history = History(uses, cost, computed)
        found[_TIERS[tier]].append((SegmentKey(placement, digest), history))
    return Uses(found, written_at)


def _encode(tier: TierName, key: SegmentKey, history: History) -> bytes:
    computed = min(history.num_computed, _MAX_COMPUTED)
    return _RECORD.pack(
        key.placement, key.digest, _TIERS.index(tier), computed, history.uses, history.total_cost
    )
