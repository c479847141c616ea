"""The file that keeps a node's log of removals over a restart.

<ssd_dir>/REMOVALS, little-endian

offset   size  what
0           8  magic b"HRREMOVE"
8           4  version, u32 = 1
12          4  number of records, u32
16          8  up to when the node was told of removals, u64, ms since the epoch
24          8  since when all removals are in it, u64, ms since the epoch
then records, each of
0          16  id of the removal
16          8  when it was made, u64, ms since the epoch
24          4  number of tags, u32
28          8 x tags
at the end  4  CRC32C of all before it
"""

import os
import struct
from pathlib import Path

import crc32c

from actors.removal_log import MAX_BYTES, TAG_BYTES, Kept, Removals, Removed
from kvstore.tiers.durable import read_file, replace_file
from kvstore.tiers.files import Files
from kvstore.tiers.store_folder import MARK

NAME = "REMOVALS"
_MAGIC = b"HRREMOVE"
_VERSION = 1
_HEAD = struct.Struct("<8sIIQQ")
_RECORD = struct.Struct("<16sQI")
_CRC = struct.Struct("<I")
_MAX_FILE_BYTES = _HEAD.size + MAX_BYTES + _CRC.size


class DamagedRemovalsError(ValueError):
    """A file that is not as it was written."""


class RemovalFile:
    """For one thread at a time. Its calls take as long as the disk does."""

    def __init__(self, folder: Path, files: Files) -> None:
        self._path = folder / NAME
        self._files = files

    @property
    def is_in_place(self) -> bool:
        """Whether the folder is marked as a store's: else a restart would refuse it with the
        file."""
        return os.path.lexists(self._path.with_name(MARK))

    def load(self) -> Kept | None:
        """None where there is none. Raises OSError, and DamagedRemovalsError."""
        data = read_file(self._files, self._path, _MAX_FILE_BYTES)
        return None if data is None else decode(data)

    def save(self, kept: Kept) -> None:
        """Raises OSError; then the file has what it had."""
        replace_file(self._files, self._path, encode(kept))


def encode(kept: Kept) -> bytes:
    entries, since_ms = kept.removals.entries, kept.removals.since_ms
    data = _HEAD.pack(_MAGIC, _VERSION, len(entries), kept.told_ms, since_ms)
    data += b"".join(
        _RECORD.pack(entry.removal, entry.at_ms, len(entry.packed) // TAG_BYTES) + entry.packed
        for entry in entries
    )
    return data + _CRC.pack(crc32c.crc32c(data))


def decode(data: bytes) -> Kept:
    """Raises DamagedRemovalsError."""
    body, crc = data[: -_CRC.size], data[-_CRC.size :]
    if len(body) < _HEAD.size or crc != _CRC.pack(crc32c.crc32c(body)):
        raise DamagedRemovalsError("has a wrong checksum")
    magic, version, num_records, told_ms, since_ms = _HEAD.unpack_from(body)
    if (magic, version) != (_MAGIC, _VERSION):
        raise DamagedRemovalsError("is none of this version")
    at, entries = _HEAD.size, list[Removed]()
    for _ in range(num_records):
        removal, at_ms, num_tags = _RECORD.unpack_from(body, at)
        start, at = at + _RECORD.size, at + _RECORD.size + num_tags * TAG_BYTES
        entries.append(Removed(removal, at_ms, body[start:at]))
    return Kept(told_ms, Removals(since_ms, tuple(entries)))
