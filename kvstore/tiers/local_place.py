"""A folder of this machine, or one that it has mounted, which several stores share.

Files are their owner's alone (0600, in folders of 0700): KV is as private as the text it was
computed from. Below the base no link is followed and nothing but a plain file is opened, so whoever
can write there leads no store to a file elsewhere.
"""

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from kvstore.tiers.medium import Source
from kvstore.tiers.place import Found, Place

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_NO_FOLDER = (errno.ENOENT, errno.ELOOP, errno.ENOTDIR)
"""What opening a name says that is no folder of ours: nothing, a link, a file."""


class LocalPlace(Place):
    renames = True

    def __init__(self, base: Path) -> None:
        self._base = base
        self._lasting: set[str] = set()  # folders whose names this process has synced

    def identity(self) -> object:
        try:
            found = os.stat(self._base)
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def write(self, path: str, parts: Sequence[bytes | memoryview]) -> None:
        folder, name = os.path.split(path)
        self._make(folder)
        with self._folder(folder) as at:
            _write(name, at, parts)

    def mark(self, name: str, text: bytes) -> None:
        self._make("")
        with self._folder("") as at, suppress(FileExistsError):
            _write(name, at, [text])
            os.fsync(at)

    def open(self, path: str) -> Source:
        folder, name = os.path.split(path)
        with self._folder(folder) as at:
            try:
                fd = os.open(name, _FILE | os.O_RDONLY, dir_fd=at)
            except OSError as error:
                raise _gone(path) if error.errno == errno.ELOOP else error from error
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            os.close(fd)
            raise _gone(path)
        return _File(fd, info.st_size)

    def exists(self, path: str) -> bool:
        folder, name = os.path.split(path)
        try:
            with self._folder(folder) as at:
                mode = os.stat(name, dir_fd=at, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return False
        return stat.S_ISREG(mode)

    def files(self, folder: str, with_folders: bool = False) -> list[Found]:
        try:
            with self._folder(folder) as at, os.scandir(at) as entries:
                found = [each for e in entries if (each := _found(folder, e))]
        except FileNotFoundError:
            return []
        for below in self._folders(folder) if with_folders else ():
            found += self.files(below)
        return found

    def folders(self) -> list[str]:
        return self._folders("")

    def is_empty(self) -> bool:
        try:
            return not os.listdir(self._base)
        except FileNotFoundError:
            return True

    def move(self, path: str, to: str) -> None:
        (folder, name), (target, new_name) = os.path.split(path), os.path.split(to)
        self._make(target)
        with self._folder(folder) as at, self._folder(target) as to_at:
            os.rename(name, new_name, src_dir_fd=at, dst_dir_fd=to_at)
            os.fsync(to_at)

    def delete(self, path: str) -> None:
        folder, name = os.path.split(path)
        with suppress(FileNotFoundError), self._folder(folder) as at:
            os.unlink(name, dir_fd=at)

    @contextmanager
    def _folder(self, folder: str) -> Iterator[int]:
        """A descriptor of it. Raises FileNotFoundError for one that is not there, or is a link."""
        fd = os.open(self._base, _FOLDER)
        try:
            for name in _parts(folder):
                below = _open_folder(name, fd)
                os.close(fd)
                fd = below
            yield fd
        finally:
            os.close(fd)

    def _make(self, folder: str) -> None:
        """It is there, and its name lasts."""
        if not self._base.is_dir():
            self._base.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lasting.clear()
        above = ""
        for name in _parts(folder):
            path = f"{above}/{name}".lstrip("/")
            with self._folder(above) as at:
                try:
                    os.mkdir(name, 0o700, dir_fd=at)
                    os.fsync(at)
                except FileExistsError:
                    if path not in self._lasting:
                        os.fsync(at)
            self._lasting.add(path)
            above = path

    def _folders(self, folder: str) -> list[str]:
        try:
            with self._folder(folder) as at, os.scandir(at) as entries:
                names = [e.name for e in entries if e.is_dir(follow_symlinks=False)]
        except FileNotFoundError:
            return []
        return [f"{folder}/{name}".lstrip("/") for name in names]


class _File(Source):
    def __init__(self, fd: int, nbytes: int) -> None:
        self._fd, self.nbytes = fd, nbytes

    def read(self, into: memoryview, offset: int) -> int:
        try:
            return os.preadv(self._fd, [into], offset)
        except OSError as error:
            if error.errno == errno.ESTALE:  # NFS, of a file that another machine deleted
                raise FileNotFoundError(errno.ENOENT, error.strerror) from error
            raise

    def close(self) -> None:
        os.close(self._fd)


def _open_folder(name: str, at: int) -> int:
    try:
        return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=at)
    except OSError as error:
        raise _gone(name) if error.errno in _NO_FOLDER else error from error


def _found(folder: str, entry: os.DirEntry[str]) -> Found | None:
    """None for what is no plain file, or was deleted since its folder was read."""
    try:
        info = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(info.st_mode):
        return None
    return Found(f"{folder}/{entry.name}".lstrip("/"), info.st_size, info.st_mtime)


def _gone(path: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, f"{path} is no file or folder of this place")


def _parts(folder: str) -> list[str]:
    return folder.split("/") if folder else []


def _write(name: str, at: int, parts: Sequence[bytes | memoryview]) -> None:
    """A new file in the folder `at`, synced."""
    fd = os.open(name, _FILE | os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=at)
    try:
        for part in parts:
            data = memoryview(part)
            while data.nbytes:
                data = data[os.write(fd, data) :]
        os.fsync(fd)
    finally:
        os.close(fd)
