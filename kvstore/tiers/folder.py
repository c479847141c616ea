"""The medium of the SSD tier: one file per segment, in a folder that one store owns.

    <folder>/HYPERRAG-STORE, LOCK                 whose it is (`kvstore/tiers/store_folder.py`)
    <folder>/tmp/<name>                           being written; removed on start
    <folder>/<x>/<y>/<key>.<nonce>.segment        x, y: first hex digits of the digest
    <folder>/quarantine/<name>                    damaged files, the newest few, for an operator

A file is written in `tmp`, synced and renamed, so a name outside of it is a whole file. The nonce
makes the name of every write new: unlinking an old file can never hit a new one of the same key.

Read, moved and unlinked are only regular files of this user under such names; anything else is a
stray, which is named to the operator and left alone.

Reads go through the page cache: with layers of 192 KiB and four threads that measured faster than
direct I/O in any size of request (the kernel reads ahead while a layer is verified).
"""

import errno
import logging
import os
import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from kvstore.errors import StoreConfigError
from kvstore.locks import is_own_file
from kvstore.tiers import segment_files
from kvstore.tiers.deadline import Deadline
from kvstore.tiers.files import Files
from kvstore.tiers.folders import Folders
from kvstore.tiers.medium import Listed, Medium, Source, Written
from kvstore.tiers.quarantine import Quarantine
from kvstore.tiers.store_folder import StoreFolder
from kvstore.types import SegmentKey, TierName

logger = logging.getLogger(__name__)

_SETTING = "store.ssd_dir"
_START_S = 5.0
"""So long a disk may take at the start before it is left to itself."""


class Folder(Medium):
    tier: TierName = "ssd"
    exclusive = True

    def __init__(self, folder: Path, quarantine_bytes: int, files: Files | None = None) -> None:
        """Raises StoreConfigError when the folder cannot be used or another store owns it; then
        nothing is held."""
        self._folder = folder
        self._files = files or Files()
        self._renewing = threading.Lock()
        self._held = StoreFolder(folder, _SETTING)
        try:
            self._folders = Folders(folder, self._files)
            self._folders.require_real()
            self._quarantine = Quarantine(folder / "quarantine", quarantine_bytes, self._files)
            self._is_ready = False
            self._begin()
        except OSError as error:
            self.close()
            raise StoreConfigError(f"{_SETTING} is {folder}: {error}") from error
        except BaseException:
            self.close()
            raise

    def write(self, key: SegmentKey, header: bytes, payload: memoryview) -> Written:
        """Write, sync, rename, sync the name; what fails leaves nothing behind. A folder that
        somebody removed is made anew, once."""
        try:
            with self._renewing:
                self._make_ready()
            return self._write(key, header, payload)
        except FileNotFoundError as error:
            logger.warning("%s is gone and made anew", error.filename or self._folder)
            self._renew()
        return self._write(key, header, payload)

    def open(self, name: str) -> Source:
        return _File(
            self._files, f"{self._folder}/{name}"
        )  # making a Path takes as long as opening

    def find(self, key: SegmentKey) -> Listed | None:
        folder, start = segment_files.folder_of(key), f"{key}."
        for name, facts in segment_files.own_files(f"{self._folder}/{folder}", start):
            return Listed(f"{folder}/{name}", facts.st_size, facts.st_mtime)
        return None

    def list(self) -> Iterator[Listed]:
        for folder in segment_files.folders_in(str(self._folder)):
            for name, facts in segment_files.own_files(f"{self._folder}/{folder}"):
                yield Listed(f"{folder}/{name}", facts.st_size, facts.st_mtime)

    def tend(self) -> None:
        with self._renewing:
            self._held.keep(self._files)

    def settle(self) -> None:
        self._folders.settle()

    @property
    def settled(self) -> bool:
        return self._folders.settled

    def strays(self) -> Iterator[str]:
        for pattern in ("tmp/*", "quarantine/*", "?/?/*"):
            for path in self._folder.glob(pattern):
                if path.parent.name == "tmp" or not self._is_ours(path):
                    yield str(path.relative_to(self._folder))
        yield from (name for name in os.listdir(self._folder) if not _BESIDE.fullmatch(name))

    def delete(self, name: str) -> None:
        """Raises PermissionError for what is no file of the store."""
        path = self._folder / name
        if not self._is_ours(path) and os.path.lexists(path):
            raise PermissionError(errno.EPERM, "no file of this store", str(path))
        self._files.unlink(path)
        self._folders.changed(path.parent)

    def set_aside(self, name: str) -> None:
        """Into the quarantine."""
        self._quarantine.take(self._folder / name)

    def aside(self) -> Iterator[Listed]:
        for name, facts in segment_files.own_files(f"{self._folder}/quarantine"):
            yield Listed(f"quarantine/{name}", facts.st_size, facts.st_mtime)

    def delete_aside(self, name: str) -> None:
        self._quarantine.delete(self._folder / name)

    @property
    def aside_bytes(self) -> int:
        return self._quarantine.used_bytes

    def free_bytes(self) -> int:
        stat = os.statvfs(self._folder)
        return stat.f_bavail * stat.f_frsize

    def close(self) -> None:
        self._held.close()

    def _write(self, key: SegmentKey, header: bytes, payload: memoryview) -> Written:
        file = segment_files.new_name(key)
        name = f"{segment_files.folder_of(key)}/{file}"
        temporary, path = self._folder / "tmp" / file, self._folder / name
        fd = self._files.create(temporary)
        try:
            try:
                for data in (memoryview(header), payload):
                    self._write_all(fd, data)
                self._files.sync(fd)
            finally:
                os.close(fd)
            self._folders.make(path.parent)
            self._files.rename(temporary, path)
            self._folders.sync(path.parent)
        except BaseException:
            for leftover in (temporary, path):
                with suppress(OSError):  # a disk that fails keeps it until the next start
                    self._files.unlink(leftover)
            raise
        return Written(name, is_new=True)

    def _write_all(self, fd: int, data: memoryview) -> None:
        while data.nbytes:
            data = data[self._files.write(fd, data) :]

    def _make_ready(self) -> None:
        self._held.keep(self._files)
        if not self._is_ready:
            for name in ("tmp", "quarantine"):
                self._files.make_folder(self._folder / name)
            self._is_ready = True

    def _begin(self) -> None:
        """What is to be done at the start. On a disk that hangs it goes on beside the store, which
        writes nothing before it has ended. Raises OSError."""

        def begin() -> None:
            with self._renewing:
                self._sweep()
                self._quarantine.trim()
                if not self._held.is_marked:
                    with suppress(OSError):  # a disk that is full, or fails: it is tried again
                        self._make_ready()

        try:
            Deadline(_START_S, threads=1).run(begin)
        except TimeoutError as error:
            logger.warning("%s is %s: the disk hangs: %s", _SETTING, self._folder, error.strerror)

    def _sweep(self) -> None:
        """Of what was being written when a predecessor ended. What cannot be unlinked stays."""
        for name, _ in list(segment_files.own_files(f"{self._folder}/tmp")):
            try:
                self._files.unlink(self._folder / "tmp" / name)
            except OSError as error:
                logger.warning("%s/tmp/%s cannot be removed: %s", self._folder, name, error)

    def _renew(self) -> None:
        """Make the folders that somebody removed, and take the one that holds them all where that
        is gone too. Raises OSError, for one that is another store's by now too."""
        with self._renewing:
            if not self._held.is_there:
                try:
                    held = StoreFolder(self._folder, _SETTING, wait_s=0.0)
                except StoreConfigError as error:
                    raise OSError(errno.EIO, str(error)) from error
                self._held.close()
                self._held = held
            self._is_ready = False
            self._make_ready()
            self._folders.forget()

    def _is_ours(self, path: Path) -> bool:
        return segment_files.has_own_name(path.name) and bool(segment_files.own_facts(str(path)))


_BESIDE = re.compile(r"[A-Z-]+(\.[a-z]+)?|tmp|quarantine|[0-9a-f]")
"""What is in the folder itself: files of the store, in capitals, and folders."""


class _File(Source):
    """Raises FileNotFoundError for what is no regular file of this user: no object of ours."""

    def __init__(self, files: Files, path: str) -> None:
        self._files = files
        self._fd = files.open(path)
        facts = os.fstat(self._fd)
        if not is_own_file(facts):
            os.close(self._fd)
            raise FileNotFoundError(errno.ENOENT, "no file of this user", path)
        self.nbytes = facts.st_size

    def read(self, into: memoryview, offset: int) -> int:
        return self._files.read(self._fd, into, offset)

    def close(self) -> None:
        os.close(self._fd)
