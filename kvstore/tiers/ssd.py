"""The SSD tier: one file per segment (`kvstore/codec.py`), in a folder that one store owns.

    <folder>/LOCK                                 locked by the owner
    <folder>/tmp/<name>                           being written; removed on start
    <folder>/<x>/<y>/<key>.<nonce>.segment        x, y: first hex digits of the digest
    <folder>/quarantine/<name>                    damaged files, the newest few, for an operator

A file is written in `tmp`, synced and renamed, so a name outside of it is a whole file. The nonce
makes the name of every write new: unlinking an old file can never hit a new one of the same key.
"""

import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from kvstore.checksum import verify_segment
from kvstore.codec import file_nbytes
from kvstore.errors import CapacityError, CorruptSegmentError, TierUnavailableError
from kvstore.locks import lock_folder
from kvstore.tiers.base import Entry, Reader, Tier
from kvstore.tiers.files import Files
from kvstore.tiers.folders import Folders
from kvstore.tiers.quarantine import Quarantine
from kvstore.tiers.segment_file import (
    SUFFIX,
    SegmentFile,
    SegmentReader,
    validated,
    write_file,
)
from kvstore.types import SegmentKey, SegmentSpec, TierName

logger = logging.getLogger(__name__)


class SsdTier(Tier):
    """Thread-safe: its lock guards only the books, never a call to the disk."""

    name: TierName = "ssd"

    def __init__(
        self, folder: Path, max_bytes: int, free_share: float, files: Files | None = None
    ) -> None:
        """Takes over what a predecessor left there; `free_share` is of what is free or ours now.

        Raises StoreConfigError when the folder cannot be written or another store owns it.
        """
        self._folder = folder
        self._disk = files or Files()
        self._folders = Folders(folder, self._disk)
        self._lock_fd = lock_folder(folder, "store.ssd_dir")
        self._lock = threading.Lock()
        self._files: dict[SegmentKey, SegmentFile] = {}
        self._writing: dict[SegmentKey, int] = {}  # bytes of files on their way in
        self._leaving: dict[SegmentFile, None] = {}  # out of sight, not yet off the disk
        self._unread: dict[Path, int] = {}  # bytes of files that the disk did not let us recover
        self._used = 0
        self._quarantine = Quarantine(folder / "quarantine", max_bytes // 16)
        for name in ("tmp", "quarantine"):
            (folder / name).mkdir(exist_ok=True, mode=0o700)
        self._recover()
        stat = os.statvfs(folder)
        free = stat.f_bavail * stat.f_frsize
        self._capacity = min(max_bytes, int(free_share * (free + self.used_bytes)))

    @property
    def capacity_bytes(self) -> int:
        return self._capacity

    @property
    def usable_bytes(self) -> int:
        """The capacity without what is in quarantine."""
        return self._capacity - self._quarantine.used_bytes

    @property
    def used_bytes(self) -> int:
        return self._used + self._quarantine.used_bytes

    def contains(self, key: SegmentKey) -> bool:
        return key in self._files

    def put(self, spec: SegmentSpec, data: memoryview, crcs: Sequence[int]) -> None:
        """Returns when the file and its name are on the disk."""
        verify_segment(spec, data, crcs)
        nbytes = file_nbytes(spec)
        with self._lock:
            if spec.key in self._files or spec.key in self._writing:
                return
            if self.used_bytes + nbytes > self._capacity:
                raise CapacityError(nbytes, self._capacity - self.used_bytes)
            self._used += nbytes
            self._writing[spec.key] = nbytes
        try:
            path = write_file(self._disk, self._folders, spec, data, tuple(crcs))
        except OSError as error:
            with self._lock:
                self._used -= nbytes
                del self._writing[spec.key]
            raise TierUnavailableError(self.name, f"{self._folder}: {error.strerror}") from error
        with self._lock:
            del self._writing[spec.key]
            self._files[spec.key] = SegmentFile(path, Entry(spec, nbytes, time.time()))

    def open(self, key: SegmentKey) -> Reader | None:
        file = self._files.get(key)
        if file is None:
            return None
        try:
            return SegmentReader(self._disk, file.path, file.entry.spec)
        except FileNotFoundError:  # somebody tidied up the folder, or a removal won the race
            self._forget(key)
            return None
        except OSError as error:
            raise TierUnavailableError(self.name, f"{file.path}: {error.strerror}") from error

    def remove(self, key: SegmentKey) -> None:
        if file := self.detach(key):
            self.discard(file)

    def detach(self, key: SegmentKey) -> SegmentFile | None:
        """First half of `remove`, in memory alone: out of sight, its bytes still counted."""
        with self._lock:
            file = self._files.pop(key, None)
            if file is not None:
                self._leaving[file] = None
        return file

    def discard(self, file: SegmentFile) -> None:
        """Second half: the bytes are gone. A disk that cannot unlink keeps them counted."""
        try:
            self._disk.unlink(file.path)
        except OSError as error:
            raise TierUnavailableError(self.name, f"{file.path}: {error.strerror}") from error
        self._left(file)

    def quarantine(self, file: SegmentFile) -> None:
        """Instead of `discard`, for a damaged one: keep it aside, bounded, for an operator."""
        try:
            self._quarantine.take(file.path)
        except OSError as error:
            raise TierUnavailableError(self.name, f"{file.path}: {error.strerror}") from error
        self._left(file)

    def keys(self) -> Iterator[Entry]:
        with self._lock:
            entries = [file.entry for file in self._files.values()]
        return iter(sorted(entries, key=lambda entry: entry.last_use))

    def check(self) -> list[str]:
        """Sizes add up, and every visible file is there with its size."""
        with self._lock:
            files, used = list(self._files.values()), self._used
            others = sum(self._writing.values()) + sum(self._unread.values())
            others += sum(file.entry.nbytes for file in self._leaving)
        problems = []
        if (total := sum(file.entry.nbytes for file in files) + others) != used:
            problems.append(f"ssd: {len(files)} files of {total} bytes, counted {used}")
        if self.used_bytes > self._capacity:
            problems.append(f"ssd: {self.used_bytes} bytes used of {self._capacity}")
        for file in files:
            size = file.path.stat().st_size if file.path.exists() else -1
            if size != file.entry.nbytes and self._files.get(file.entry.key) is file:
                found = f"has {size} bytes, not {file.entry.nbytes}" if size >= 0 else "is gone"
                problems.append(f"ssd: {file.path} {found}")
        return problems

    def strays(self) -> list[Path]:
        """Files where segments are, or are being written, that are in no book."""
        listed = [path for where in ("tmp/*", "?/?/*") for path in self._folder.glob(where)]
        with self._lock:
            known = {file.path for file in (*self._files.values(), *self._leaving)}
            known.update(self._unread)
            coming = {str(key) for key in self._writing}
        unknown = [p for p in listed if p not in known and p.name.partition(".")[0] not in coming]
        return [path for path in unknown if path.is_file()]  # else evicted, or renamed, meanwhile

    def discard_stray(self, path: Path) -> None:
        try:
            self._disk.unlink(path)
        except OSError as error:
            raise TierUnavailableError(self.name, f"{path}: {error.strerror}") from error

    def close(self) -> None:
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def _forget(self, key: SegmentKey) -> None:
        if file := self.detach(key):
            self._left(file)

    def _left(self, file: SegmentFile) -> None:
        with self._lock:
            del self._leaving[file]
            self._used -= file.entry.nbytes

    def _recover(self) -> None:
        self._folders.recover()
        for leftover in (self._folder / "tmp").iterdir():
            leftover.unlink()
        for path in sorted(self._folder.glob(f"?/?/*{SUFFIX}"), key=lambda p: p.stat().st_mtime):
            try:
                file = validated(self._disk, path)
            except CorruptSegmentError:
                self._quarantine.take(path)
                continue
            except OSError as error:  # it may be sound: left alone until the next start
                logger.warning("segment file %s cannot be read: %s", path, error.strerror)
                self._unread[path] = path.stat().st_size
                self._used += self._unread[path]
                continue
            if file.entry.key in self._files:  # the same key twice: a crash between put and unlink
                path.unlink()
                continue
            self._files[file.entry.key] = file
            self._used += file.entry.nbytes
