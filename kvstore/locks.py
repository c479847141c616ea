"""Files that say, by a lock, that their owner lives.

The kernel drops a `flock` with the process that holds it, so a lock that can be taken means that
the owner is gone: no clock, no heartbeat. A fresh file is unlocked for a moment, in which a sweep
may take it for abandoned and unlink it; its creator sees that the name is gone and makes another.
"""

import errno
import fcntl
import os
import secrets
import time
from pathlib import Path

from kvstore.errors import StoreConfigError

_FLAGS = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
_ATTEMPTS = 16
_RETRY_S = 0.05


class OwnedFile:
    """A new file `<folder>/<prefix><token>`, locked by this process until `close` or its end."""

    def __init__(self, folder: Path, prefix: str) -> None:
        """Raises OSError when the folder cannot be written."""
        for _ in range(_ATTEMPTS):
            self.token = secrets.token_hex(8)
            self.path = folder / (prefix + self.token)
            self.fd = os.open(self.path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600)
            if try_lock(self.fd) and _names(self.path, self.fd):
                return
            os.close(self.fd)
        raise OSError(f"{folder}: every new file was swept away {_ATTEMPTS} times")

    def close(self) -> None:
        """Remove the file, then the lock, so that nobody takes the file for an orphan.
        Idempotent."""
        if self.fd >= 0:
            self.path.unlink(missing_ok=True)
            os.close(self.fd)
            self.fd = -1


def try_lock(fd: int) -> bool:
    """Take the lock if nobody has it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def open_existing(path: Path) -> int | None:
    """A descriptor of a file of ours; None when it is gone, somebody else's, or no plain file."""
    try:
        return os.open(path, _FLAGS)
    except (FileNotFoundError, PermissionError, IsADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link that somebody planted in a shared folder
            return None
        raise


def is_owned(path: Path) -> bool:
    """Whether the file is there and its owner lives."""
    fd = open_existing(path)
    if fd is None:
        return False
    owned = not try_lock(fd)
    os.close(fd)
    return owned


def sweep(folder: Path, prefix: str) -> int:
    """Unlink the files with this prefix whose owners are gone; how many."""
    swept = 0
    for path in sorted(folder.glob(prefix + "*")):
        fd = open_existing(path)
        if fd is None:
            continue
        if try_lock(fd):
            path.unlink(missing_ok=True)
            swept += 1
        os.close(fd)
    return swept


def lock_folder(folder: Path, setting: str, wait_s: float = 1.0) -> int:
    """Own a folder until the descriptor is closed; a predecessor gets `wait_s` to finish dying.

    Raises StoreConfigError when somebody else owns it or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(folder / "LOCK", _FLAGS | os.O_CREAT, 0o600)
    except OSError as error:
        raise StoreConfigError(
            f"{setting} is {folder}, which cannot be written ({error.strerror}): "
            f"choose another folder, or leave {setting} empty to do without this tier"
        ) from error
    give_up = time.monotonic() + wait_s
    while not try_lock(fd):
        if time.monotonic() >= give_up:
            os.close(fd)
            raise StoreConfigError(
                f"{setting} is {folder}, which another running store owns: "
                f"stop that store, or give this one a folder of its own"
            )
        time.sleep(_RETRY_S)
    return fd


def _names(path: Path, fd: int) -> bool:
    try:
        return os.stat(path).st_ino == os.fstat(fd).st_ino
    except FileNotFoundError:  # a sweep came between the creation and the lock
        return False
