"""When and as what a file was made, in its file system: no copy of the file has that.

The time of birth is a file's own, in nanoseconds, whatever the file is copied with. It stays over a
restart, a remount and a change of owner, mode, name or device number. Python's `os.stat` does not
show it on Linux, the system call `statx` does. Where a file system keeps none there is the number
of the inode, which the root of each new file system shares with others.
"""

import ctypes
import os
import struct
from dataclasses import dataclass
from typing import Self

_STATX_BTIME = 0x800
_AT_EMPTY_PATH = 0x1000
_BUFFER_BYTES = 256
_MASK = struct.Struct("=I")
_BTIME, _BTIME_AT = struct.Struct("=qI"), 80
_statx = getattr(ctypes.CDLL(None, use_errno=True), "statx", None)


@dataclass(frozen=True, slots=True)
class Birth:
    inode: int
    time_ns: int
    """0: unknown."""

    @classmethod
    def of(cls, fd: int) -> Self:
        """Raises OSError."""
        return cls(os.fstat(fd).st_ino, _time_ns(fd))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError."""
        inode, time_ns = text.split("-")
        return cls(int(inode, 16), int(time_ns, 16))

    def __str__(self) -> str:
        return f"{self.inode:x}-{self.time_ns:x}"

    def may_be(self, other: "Birth") -> bool:
        """Whether it is one file, as far as both know."""
        if self.time_ns and other.time_ns:
            return self.time_ns == other.time_ns
        return self.inode == other.inode


def _time_ns(fd: int) -> int:
    if _statx is None:
        return 0
    found = ctypes.create_string_buffer(_BUFFER_BYTES)
    if _statx(fd, b"", _AT_EMPTY_PATH, _STATX_BTIME, found):
        return 0
    if not _MASK.unpack_from(found)[0] & _STATX_BTIME:
        return 0
    seconds, nanoseconds = _BTIME.unpack_from(found, _BTIME_AT)
    return max(0, int(seconds) * 10**9 + int(nanoseconds))
