"""The memory file that a shard owns and every process of the node maps.

Layout, little-endian; a granule is 4096 bytes:

    offset            size  what
    0                    8  magic b"HRKVARNA"
    8                    4  version, u32 = 2
    12                   4  granule in bytes, u32 = 4096
    16                   8  size of the file in bytes, u64, a multiple of 4096
    24                   8  offset of the generation table, u64 = 4096
    32                   8  offset of the arrival table, u64, a multiple of 4096
    40                   8  offset of the data, u64, a multiple of 4096
    48                  16  incarnation, ASCII hex
    64                4032  zero
    4096   8 x size / 4096  generation table, u64 per granule of the file, zero-padded to a granule
    then   4 x size / 4096  arrival table, u32 per granule of the file, zero-padded to a granule
    data          the rest  extents, each starting at a granule

An extent at `offset` is the one its holder was given while `table[offset // 4096]` is the
generation it was given with: the owner raises that entry when it frees the extent, before the
bytes can change. The entry is one aligned word. The owner raises it under its lock and hands the
extent on only after that, and a reader looks at it after its last use of the bytes, so a reuse is
always seen.

The arrival entry says how much of the segment is in place (`kvstore/arrival.py`). Who frees an
extent raises its generation first and makes this entry 0 after that; so who looks at the entry, and
then finds the generation as it was, was told of its own segment.
"""

import errno
import mmap
import os
import struct
from pathlib import Path

from kvstore.arena_file import NODE_NAME, PREFIX, WAIT_S, allocated_file
from kvstore.arrival import Arrival, num_arrived
from kvstore.errors import StoreConfigError, StoreUnavailableError
from kvstore.garbage import collect_all
from kvstore.locks import is_owned, open_own
from kvstore.types import ArenaRef, Extent

GRANULE = 4096
_MAGIC = b"HRKVARNA"
_VERSION = 2
_HEADER = struct.Struct("<8sIIQQQQ16s")


def granules(nbytes: int) -> int:
    """How many granules hold `nbytes`."""
    return -(-nbytes // GRANULE)


def taken_bytes(nbytes: int) -> int:
    """Of the arena, by an extent of so many bytes."""
    return granules(nbytes) * GRANULE


class Arena:
    """The owner's side: creates, locks, maps and at the end unlinks one incarnation's file."""

    def __init__(self, folder: str, node: str, nbytes: int, wait_s: float = WAIT_S) -> None:
        """`nbytes` is the size of the whole file, rounded down to granules, allocated here in full.

        Files of this user's stores whose owner is gone are unlinked first; memory that readers
        still map is waited for, for `wait_s`. Raises StoreConfigError when the folder is missing or
        has no room, ValueError for a node name that cannot be part of a file name.
        """
        if not NODE_NAME.fullmatch(node):
            raise ValueError(f"node is {node!r}, must be letters, digits, '_' or '-'")
        nbytes -= nbytes % GRANULE
        arrivals_offset = GRANULE + granules(nbytes // GRANULE * 8) * GRANULE
        self.data_offset = arrivals_offset + granules(nbytes // GRANULE * 4) * GRANULE
        if nbytes <= self.data_offset:
            raise StoreConfigError(f"store.dram_bytes is {nbytes}, too small to hold any segment")
        self._file = allocated_file(Path(folder), f"{PREFIX}{node}-", nbytes, wait_s)
        self.ref = ArenaRef(str(self._file.path), nbytes, self._file.token)
        try:
            self._map = mmap.mmap(self._file.fd, nbytes)
        except OSError:  # no address space: nobody will close what was not made
            self._file.close()
            raise
        self._bytes = memoryview(self._map)
        self._generations = self._bytes[GRANULE:arrivals_offset].cast("Q")
        self._arrivals = self._bytes[arrivals_offset : self.data_offset].cast("I")
        _HEADER.pack_into(
            self._map, 0, _MAGIC, _VERSION, GRANULE, nbytes, GRANULE, arrivals_offset,
            self.data_offset, self.ref.incarnation.encode(),
        )  # fmt: skip

    @property
    def num_granules(self) -> int:
        """Granules of data, without header and tables."""
        return (self.ref.nbytes - self.data_offset) // GRANULE

    def extent(self, start: int, nbytes: int) -> Extent:
        """The extent that begins at data granule `start`, with its generation of now."""
        offset = self.data_offset + start * GRANULE
        return Extent(offset, nbytes, self._generations[offset // GRANULE])

    def start_of(self, extent: Extent) -> int:
        return (extent.offset - self.data_offset) // GRANULE

    def generation(self, extent: Extent) -> int:
        return self._generations[extent.offset // GRANULE]

    def is_complete(self, extent: Extent) -> bool:
        return self._arrivals[extent.offset // GRANULE] == 0

    def arrival(self, extent: Extent) -> Arrival:
        """The extent's segment is about to be read into it, layer by layer."""
        index = extent.offset // GRANULE
        return Arrival(self._arrivals[index : index + 1])

    def retire(self, extent: Extent) -> None:
        """Tell every reader that these bytes are about to become something else."""
        index = extent.offset // GRANULE
        self._generations[index] += 1
        self._arrivals[index] = 0

    def view(self, extent: Extent) -> memoryview:
        """Raises StoreUnavailableError once the arena is closed."""
        if self._file.fd < 0:
            raise StoreUnavailableError("the store is closed")
        return self._bytes[extent.offset : extent.offset + extent.nbytes]

    def close(self) -> None:
        """Unlink the file. Maps and views that others still hold stay valid. Idempotent."""
        self._file.close()
        self._generations.release()
        self._arrivals.release()
        if not self._is_unmapped():
            # An error that a library keeps in a cycle leads back to the frames of a write.
            collect_all()
            self._is_unmapped()

    def _is_unmapped(self) -> bool:
        """False while a view is still out: the map goes with the last one."""
        try:
            self._bytes.release()
            self._map.close()
        except BufferError:
            return False
        return True


class ArenaMap:
    """A client's side: the owner's bytes, mapped twice, for reading and for filling tickets.

    Readers get a private map, because torch warns on read-only buffers: nothing that a reader does
    can reach the store, and a page never written to shows what the owner has. Views keep the maps
    alive after the ArenaMap itself is dropped.
    """

    def __init__(self, ref: ArenaRef) -> None:
        """Raises StoreUnavailableError when the file is gone, another user's or another
        incarnation's."""
        try:
            fd = open_own(ref.path)
            if fd is None:
                raise FileNotFoundError(errno.ENOENT, "no file of this user")
            try:
                private = mmap.mmap(fd, ref.nbytes, access=mmap.ACCESS_COPY)
                shared = mmap.mmap(fd, ref.nbytes, access=mmap.ACCESS_WRITE)
            finally:
                os.close(fd)
        except (OSError, ValueError) as error:  # ValueError: the file is shorter than announced
            raise StoreUnavailableError(f"arena {ref.path} cannot be mapped: {error}") from error
        header = _HEADER.unpack_from(shared)
        if (header[0], header[1], header[7]) != (_MAGIC, _VERSION, ref.incarnation.encode()):
            raise StoreUnavailableError(f"arena {ref.path} is not incarnation {ref.incarnation}")
        self.ref, self._data_offset = ref, header[6]
        self._private, self._shared = memoryview(private), memoryview(shared)
        self._generations = self._shared[header[4] : header[5]].cast("Q")
        self._arrivals = self._shared[header[5] : header[6]].cast("I")

    def view(self, extent: Extent) -> memoryview:
        self._require(extent)
        return self._private[extent.offset : extent.offset + extent.nbytes]

    def writable(self, extent: Extent) -> memoryview:
        self._require(extent)
        return self._shared[extent.offset : extent.offset + extent.nbytes]

    def unchanged(self, extent: Extent) -> bool:
        self._require(extent)
        return self._generations[extent.offset // GRANULE] == extent.generation

    def num_arrived(self, extent: Extent) -> int:
        """Layers that are in place, as `kvstore.arrival` counts them; -1 too when the extent is not
        this segment's any more, because its read failed."""
        self._require(extent)
        index = extent.offset // GRANULE
        entry = self._arrivals[index]
        return num_arrived(entry) if self._generations[index] == extent.generation else -1

    def _require(self, extent: Extent) -> None:
        """Raises ValueError for what cannot be an extent here: it would reach into the tables, or
        name another's bytes."""
        if (
            type(extent) is not Extent
            or type(extent.offset) is not int
            or type(extent.nbytes) is not int
            or extent.offset % GRANULE
            or not 0 < extent.nbytes <= self.ref.nbytes - extent.offset
            or extent.offset < self._data_offset
        ):
            raise ValueError(f"extent is {extent!r}, must be one that acquire has given")

    def is_owned(self) -> bool:
        """Whether the owner lives, so that what is on its way may still arrive."""
        return is_owned(Path(self.ref.path))
