"""The lock of a folder that one store has for itself: on the folder, and on a file in it.

    <folder>/LOCK       locked by the store that runs

The lock on the folder outlasts the removal of any name in it. But who may read the folder can take
that one too, and some file systems have none (NFS). So the file decides, where it is there: a store
that runs has it locked, and makes it again when somebody removed it. Where it is missing and the
folder is locked, another store runs.
"""

import logging
import os
from contextlib import suppress

from kvstore.locks import open_own, try_lock

logger = logging.getLogger(__name__)

LOCK = "LOCK"
_NEW = f"{LOCK}.new"
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class FolderLock:
    """Taken until `close`, or until the process ends. It does not own `folder_fd`, which is to be
    closed at the same time: the lock on the folder ends with it."""

    def __init__(self, folder_fd: int) -> None:
        self._folder_fd = folder_fd
        self._fd = -1

    def try_take(self) -> bool:
        """Whether it is ours now. Raises OSError; FileExistsError for a file that is none of this
        user."""
        has_folder = _try_lock_folder(self._folder_fd)
        fd = self._open(may_make=has_folder)
        if fd is None:
            return False
        if not try_lock(fd) or not self._is_named(fd):
            os.close(fd)
            return False
        self._fd = fd
        if not has_folder:
            logger.warning("no store runs in it, and somebody else has locked the store's folder")
        return True

    def keep(self) -> None:
        """Make the file again if it is gone: locked before it has its name. Raises OSError."""
        if self._is_named(self._fd):
            return
        with suppress(FileNotFoundError):
            os.unlink(_NEW, dir_fd=self._folder_fd)
        fd = os.open(_NEW, _CREATE, 0o600, dir_fd=self._folder_fd)
        try:
            try_lock(fd)
            os.rename(_NEW, LOCK, src_dir_fd=self._folder_fd, dst_dir_fd=self._folder_fd)
        except BaseException:
            os.close(fd)
            raise
        os.close(self._fd)
        self._fd = fd

    def close(self) -> None:
        """Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def _open(self, may_make: bool) -> int | None:
        """None where there is no file, and none may be made."""
        if may_make:
            with suppress(FileExistsError):
                return os.open(LOCK, _CREATE, 0o600, dir_fd=self._folder_fd)
        fd = open_own(LOCK, self._folder_fd)
        if fd is None and self._found() is not None:
            raise FileExistsError(f"{LOCK} is no regular file of this user")
        return fd

    def _is_named(self, fd: int) -> bool:
        """Whether the name still leads to the open file."""
        found = self._found()
        return found is not None and os.path.samestat(found, os.fstat(fd))

    def _found(self) -> os.stat_result | None:
        try:
            return os.lstat(LOCK, dir_fd=self._folder_fd)
        except FileNotFoundError:
            return None


def _try_lock_folder(fd: int) -> bool:
    """True where there are no locks of folders too: then the file's has to do."""
    try:
        return try_lock(fd)
    except OSError as error:
        logger.debug("the folder cannot be locked, its file %s is: %s", LOCK, error.strerror)
        return True
