"""File operations that are done and written down, in order: what a power cut can take back."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from kvstore.tiers.files import Files
from kvstore.types import SegmentSpec


@dataclass(frozen=True, slots=True)
class Create:
    """Names are relative to the folder, with slashes. An inode is one file, whatever its name."""

    name: str
    inode: int


@dataclass(frozen=True, slots=True)
class Append:
    """A file that is there is opened, to be written to at its end."""

    name: str
    inode: int


@dataclass(frozen=True, slots=True)
class Write:
    inode: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Sync:
    inode: int


@dataclass(frozen=True, slots=True)
class SyncFolder:
    name: str


@dataclass(frozen=True, slots=True)
class MakeFolder:
    name: str


@dataclass(frozen=True, slots=True)
class Rename:
    name: str
    to: str


@dataclass(frozen=True, slots=True)
class Unlink:
    name: str


@dataclass(frozen=True, slots=True)
class Stored:
    """A mark: the tier said that this segment is on the disk."""

    spec: SegmentSpec


@dataclass(frozen=True, slots=True)
class Removing:
    """A mark: from here on the segment may be gone."""

    spec: SegmentSpec


Event = (
    Create | Append | Write | Sync | SyncFolder | MakeFolder | Rename | Unlink | Stored | Removing
)


class Killed(BaseException):
    """The process died. Not an Exception: nothing between here and the test may handle it."""


class RecordingFiles(Files):
    """Real files below `root`; `log` says what happened to them. For one thread."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._inodes: dict[int, int] = {}  # of the descriptors of created files
        self._sizes: list[int] = []  # by inode
        self._left: int | None = None  # operations until the process dies
        self.log: list[Event] = []

    def kill_after(self, operations: int) -> None:
        """Die in the place of the operation after that many, and of all that follow."""
        self._left = operations

    def revive(self) -> None:
        self._left = None

    def create(self, path: Path) -> int:
        self._step()
        fd = super().create(path)
        self._inodes[fd] = len(self._sizes)
        self._sizes.append(0)
        self.log.append(Create(self._name(path), self._inodes[fd]))
        return fd

    def append(self, path: Path) -> int:
        self._step()
        fd = super().append(path)
        self._inodes[fd] = len(self._sizes)
        self._sizes.append(os.fstat(fd).st_size)
        self.log.append(Append(self._name(path), self._inodes[fd]))
        return fd

    def write(self, fd: int, data: memoryview) -> int:
        self._step()
        done, inode = super().write(fd, data), self._inodes[fd]
        self.log.append(Write(inode, self._sizes[inode], bytes(data[:done])))
        self._sizes[inode] += done
        return done

    def sync(self, fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):  # the second half of `sync_folder`
            super().sync(fd)
            return
        self._step()
        super().sync(fd)
        self.log.append(Sync(self._inodes[fd]))

    def sync_folder(self, path: Path) -> None:
        self._step()
        super().sync_folder(path)
        self.log.append(SyncFolder(self._name(path)))

    def make_folder(self, path: Path) -> None:
        self._step()
        super().make_folder(path)
        self.log.append(MakeFolder(self._name(path)))

    def rename(self, path: Path, to: Path) -> None:
        self._step()
        super().rename(path, to)
        self.log.append(Rename(self._name(path), self._name(to)))

    def unlink(self, path: Path) -> None:
        self._step()
        super().unlink(path)
        self.log.append(Unlink(self._name(path)))

    def _step(self) -> None:
        if self._left is not None:
            if self._left <= 0:
                raise Killed
            self._left -= 1

    def _name(self, path: Path) -> str:
        name = path.relative_to(self._root).as_posix()
        return "" if name == "." else name
