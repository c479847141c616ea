"""Files that say, by a lock, that their owner lives.

The kernel drops a `flock` with the process that holds it, so a lock that can be taken means that
the owner is gone: no clock, no heartbeat. A fresh file is unlocked for a moment, in which a sweep
may take it for abandoned and unlink it; its creator sees that the name is gone and makes another.

These files stand in folders that other users may write to, such as /dev/shm. So their names end in
a random token, links are never followed, and a file counts only where it is a regular file of this
user: what others put there, under whatever name, is neither believed nor touched.
"""

import errno
import fcntl
import logging
import os
import re
import secrets
import stat
from pathlib import Path
from weakref import WeakSet

logger = logging.getLogger(__name__)

TOKEN = re.compile(r"[0-9a-f]{16}")
_FLAGS = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_ATTEMPTS = 16
_NOT_OURS = frozenset(
    {
        errno.ENOENT, errno.EACCES, errno.EPERM,
        errno.ELOOP,  # a link
        errno.EISDIR, errno.ENXIO, errno.ENODEV,  # a folder, a socket, a device
    }
)  # fmt: skip
"""Errors of opening what is no file of this user."""


class OwnedFile:
    """A new file `<folder>/<prefix><token>`, locked by this process until `close` or its end. A
    process that is forked from it has no part in that: else it would outlive its owner there."""

    def __init__(self, folder: Path, prefix: str) -> None:
        """Raises OSError when the folder cannot be written."""
        for _ in range(_ATTEMPTS):
            self.token = secrets.token_hex(8)
            self.path = folder / (prefix + self.token)
            self.fd = os.open(self.path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600)
            if try_lock(self.fd) and _names(self.path, self.fd):
                _owned.add(self)
                return
            os.close(self.fd)
        raise OSError(f"{folder}: every new file was swept away {_ATTEMPTS} times")

    def close(self) -> None:
        """Remove the file, then the lock, so that nobody takes the file for an orphan.
        Idempotent."""
        if self.fd >= 0:
            if _names(self.path, self.fd):
                self.path.unlink(missing_ok=True)
            self.disown()

    def disown(self) -> None:
        """Close it without a word of its end, which is not this process's to say."""
        os.close(self.fd)
        self.fd = -1


_owned: WeakSet[OwnedFile] = WeakSet()


def _disown_all() -> None:
    for file in list(_owned):
        if file.fd >= 0:
            file.disown()


os.register_at_fork(after_in_child=_disown_all)


def try_lock(fd: int) -> bool:
    """Take the lock if nobody has it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def open_lock_file(path: Path, mode: int = 0o600) -> int:
    """A descriptor of a lock file with a name of its own, made if it is missing; for reading and
    writing. Raises OSError, for a link and for what is no regular file of one name too: whoever
    writes into it must not write elsewhere."""
    fd = os.open(path, _FLAGS | os.O_CREAT, mode)
    found = os.fstat(fd)
    if stat.S_ISREG(found.st_mode) and found.st_nlink <= 1:
        return fd
    os.close(fd)
    raise OSError(errno.EINVAL, "is no lock file", str(path))


def is_own_file(found: os.stat_result) -> bool:
    """Whether it is a regular file of this user."""
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()


def open_own(path: Path | str, dir_fd: int | None = None) -> int | None:
    """A descriptor of a regular file of this user, for reading and writing; None when it is gone,
    a link, somebody else's, or no regular file."""
    try:
        fd = os.open(path, _FLAGS, dir_fd=dir_fd)
    except OSError as error:
        if error.errno not in _NOT_OURS:
            raise
        return None
    if is_own_file(os.fstat(fd)):
        return fd
    os.close(fd)
    return None


def is_owned(path: Path) -> bool:
    """Whether the file is there, of this user, and its owner lives."""
    fd = open_own(path)
    if fd is None:
        return False
    owned = not try_lock(fd)
    os.close(fd)
    return owned


def sweep(folder: Path, name: re.Pattern[str]) -> int:
    """Unlink the files of this user with such names whose owners are gone; how many. What cannot be
    unlinked stays, and is logged: it keeps nobody from starting."""
    try:
        folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        logger.debug("%s is not swept: %s", folder, error.strerror)
        return 0
    try:
        return sum(
            _unlink_orphan(folder_fd, each)
            for each in sorted(os.listdir(folder_fd))
            if name.fullmatch(each)
        )
    finally:
        os.close(folder_fd)


def _unlink_orphan(folder_fd: int, name: str) -> bool:
    fd = open_own(name, folder_fd)
    if fd is None:
        return False
    try:
        if not try_lock(fd):
            return False
        os.unlink(name, dir_fd=folder_fd)
    except FileNotFoundError:  # another sweep was first
        return False
    except OSError as error:
        logger.warning("%s of a process that is gone cannot be removed: %s", name, error.strerror)
        return False
    finally:
        os.close(fd)
    return True


def _names(path: Path, fd: int) -> bool:
    """Whether the path leads to the open file."""
    try:
        found, opened = os.lstat(path), os.fstat(fd)
    except FileNotFoundError:  # a sweep came between the creation and the lock
        return False
    return (found.st_dev, found.st_ino) == (opened.st_dev, opened.st_ino)
