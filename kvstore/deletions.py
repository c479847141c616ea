"""The durable list of deletions that a slow tier has not made yet.

    <ssd_dir>/DELETIONS, little-endian

    offset   size  what
    0           8  magic b"HRDELETE"
    8           4  version, u32 = 1
    12          4  CRC32C of the bytes before it
    then records, each of
    0           4  size of the body in bytes, u32
    4           4  CRC32C of the size
    8           1  tier, u8: 0 ssd, 1 remote
    9           3  zero
    12          4  number of tags, u32
    16          4  number of keys, u32
    20          8 x tags, then 40 x keys (placement, digest)
    ...         4  CRC32C of the body before it

A record is on the disk before the deletion is acknowledged. The list is read before anything is
served from a tier. A record that the end of the file cuts short was never acknowledged. A list
that is damaged in any other way may have named anything.
"""

import errno
import struct
import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import crc32c

from kvstore.tiers.durable import append_file, read_file, replace_file
from kvstore.tiers.files import Files
from kvstore.types import SegmentKey, TierName

NAME = "DELETIONS"
MAX_BYTES = 64 * 2**20
_MAGIC = b"HRDELETE"
_VERSION = 1
_HEAD = struct.Struct("<8sI")
_CRC = struct.Struct("<I")
_SIZE = struct.Struct("<II")
_BODY = struct.Struct("<B3xII")
_TAG_BYTES = 8
_KEY_BYTES = 40
_TIERS: tuple[TierName, ...] = ("ssd", "remote")


class DamagedListError(ValueError):
    """A list that says less than was written into it."""


@dataclass(frozen=True, slots=True)
class Deletion:
    """Passages of which a tier may still have something."""

    tier: TierName
    version: int
    """Of the tier's tombstones, in this process."""
    tags: tuple[bytes, ...]
    keys: tuple[SegmentKey, ...]
    """Segments that go with them, as far as they were known."""


class DeletionList:
    """Thread-safe. Its calls take as long as the disk does."""

    def __init__(self, folder: Path, files: Files) -> None:
        self._path = folder / NAME
        self._files = files
        self._lock = threading.Lock()
        self._entries: list[Deletion] = []
        self._ended: dict[TierName, int] = {}
        self._nbytes = 0  # of the file; 0: it is written anew before it is relied on
        self._is_damaged = False

    def load(self) -> list[Deletion]:
        """What a predecessor left, with version 0. Raises OSError, and DamagedListError when the
        list cannot be trusted."""
        self._is_damaged = True
        data = read_file(self._files, self._path, MAX_BYTES)
        found = list(decode(data)) if data is not None else []
        self._is_damaged = False
        return found

    def keep(self, deletions: Collection[Deletion]) -> None:
        """These are in the file, as it was loaded."""
        self._entries = list(deletions)

    def record(self, deletions: Sequence[Deletion]) -> None:
        """They outlast a restart, and a power cut, from now on. Raises OSError; ENOSPC when the
        list is full. A damaged one stays as it is until the SSD, which it empties, is empty."""
        with self._lock:
            if self._is_damaged:
                raise OSError(errno.EIO, f"{NAME} is damaged")
            new = [d for d in deletions if d.version > self._ended.get(d.tier, 0)]
            data = b"".join(map(encode, new))
            if self._nbytes + len(data) > MAX_BYTES:
                raise OSError(errno.ENOSPC, f"{NAME} has its {MAX_BYTES} bytes")
            if not self._nbytes:
                self._rewrite([*self._entries, *new])
            elif new:
                nbytes, self._nbytes = self._nbytes, 0
                append_file(self._files, self._path, data)
                self._nbytes = nbytes + len(data)
            self._entries += new

    def end(self, tier: TierName, version: int) -> None:
        """The tier has made its deletions up to this version. Raises OSError; then they stand."""
        with self._lock:
            self._ended[tier] = max(version, self._ended.get(tier, 0))
            left = [d for d in self._entries if d.tier != tier or d.version > version]
            if len(left) < len(self._entries) or self._is_damaged:
                self._rewrite(left)
                self._entries = left

    def _rewrite(self, entries: Sequence[Deletion]) -> None:
        self._nbytes = 0
        data = _header() + b"".join(map(encode, entries))
        replace_file(self._files, self._path, data)
        self._nbytes, self._is_damaged = len(data), False


def encode(deletion: Deletion) -> bytes:
    tags, keys = deletion.tags, deletion.keys
    body = _BODY.pack(_TIERS.index(deletion.tier), len(tags), len(keys)) + b"".join(tags)
    body += b"".join(key.placement + key.digest for key in keys)
    size = _CRC.pack(len(body))
    return size + _crc_of(size) + body + _crc_of(body)


def decode(data: bytes) -> Iterator[Deletion]:
    """Raises DamagedListError."""
    if len(data) < _HEAD.size + _CRC.size or not data.startswith(_header()):
        raise DamagedListError("is no list of deletions of this version")
    at = _HEAD.size + _CRC.size
    while at + _SIZE.size <= len(data):
        nbytes, crc = _SIZE.unpack_from(data, at)
        if crc != crc32c.crc32c(data[at : at + _CRC.size]):
            raise DamagedListError(f"has a wrong checksum at byte {at}")
        start, end = at + _SIZE.size, at + _SIZE.size + nbytes
        if end + _CRC.size > len(data):
            return
        yield _decoded(data[start:end], data[end : end + _CRC.size], at)
        at = end + _CRC.size


def _decoded(body: bytes, crc: bytes, at: int) -> Deletion:
    if _crc_of(body) != crc or len(body) < _BODY.size:
        raise DamagedListError(f"has a wrong checksum at byte {at}")
    tier, num_tags, num_keys = _BODY.unpack_from(body)
    keys_at = _BODY.size + num_tags * _TAG_BYTES
    if tier >= len(_TIERS) or len(body) != keys_at + num_keys * _KEY_BYTES:
        raise DamagedListError(f"has a record that is none at byte {at}")
    tags = _cut(body[_BODY.size : keys_at], _TAG_BYTES)
    keys = (SegmentKey(key[:8], key[8:]) for key in _cut(body[keys_at:], _KEY_BYTES))
    return Deletion(_TIERS[tier], 0, tuple(tags), tuple(keys))


def _cut(data: bytes, nbytes: int) -> Collection[bytes]:
    return [data[i : i + nbytes] for i in range(0, len(data), nbytes)]


def _header() -> bytes:
    head = _HEAD.pack(_MAGIC, _VERSION)
    return head + _crc_of(head)


def _crc_of(data: bytes) -> bytes:
    return _CRC.pack(crc32c.crc32c(data))
