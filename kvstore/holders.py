"""Processes of the node that use the store. Each holds a lock file while it lives: no clocks.

<dram_dir>/hyperrag-holder-<holder id>        beside the arena, of the user of the store
"""

import os
import re
from pathlib import Path

from kvstore.errors import StoreConfigError, StoreUnavailableError
from kvstore.locks import TOKEN, OwnedFile, is_owned, open_own, sweep, try_lock
from kvstore.types import HolderId

PREFIX = "hyperrag-holder-"
_NAME = re.compile(PREFIX + TOKEN.pattern)


def lock_file(dram_dir: str, holder: HolderId) -> Path:
    """Raises ValueError for what cannot be a holder's id."""
    if not TOKEN.fullmatch(holder):
        raise ValueError(f"holder is {holder!r}, must be 16 hex digits")
    return Path(dram_dir) / (PREFIX + holder)


def lives(dram_dir: str, holder: HolderId) -> bool:
    """Whether a process of this node holds the lock file of that name."""
    return bool(TOKEN.fullmatch(holder)) and is_owned(lock_file(dram_dir, holder))


class Holder:
    """A client's side: this object is alive, says its lock file."""

    def __init__(self, dram_dir: str) -> None:
        """Raises StoreConfigError when no file can be made there."""
        try:
            self._file = OwnedFile(Path(dram_dir), PREFIX)
        except OSError as error:
            raise StoreConfigError(
                f"store.dram_dir is {dram_dir}, which cannot be written ({error}): "
                f"name a memory file system such as /dev/shm"
            ) from error
        self.holder_id = HolderId(self._file.token)

    @property
    def is_held(self) -> bool:
        """False in a forked process: the holder is the one that it was forked from."""
        return self._file.fd >= 0

    def close(self) -> None:
        self._file.close()


class Holders:
    """The store's side: the registered ones, and which of them have ended.

    Not thread-safe: the metadata lock guards it.
    """

    def __init__(self, dram_dir: str) -> None:
        self._dram_dir = dram_dir
        self._fds: dict[HolderId, int] = {}
        self.sweep()

    def sweep(self) -> None:
        """Remove the lock files of processes that ended before they were known here. Needs no
        lock."""
        sweep(Path(self._dram_dir), _NAME)

    def ensure(self, holder: HolderId) -> None:
        """Know this holder from now on. Raises StoreUnavailableError when it does not live here."""
        if holder in self._fds:
            return
        fd = open_own(lock_file(self._dram_dir, holder))
        if fd is None or try_lock(fd):
            if fd is not None:
                os.close(fd)
            raise StoreUnavailableError(
                f"holder {holder} has no lock in {self._dram_dir}: "
                f"it ended, is another user's, or its store.dram_dir differs"
            )
        self._fds[holder] = fd

    def ended(self) -> list[HolderId]:
        """Those whose lock can be taken: nobody will write or read in their name again."""
        return [holder for holder, fd in self._fds.items() if try_lock(fd)]

    def forget(self, holder: HolderId) -> None:
        """Idempotent. Of one that ended, the lock file goes too."""
        fd = self._fds.pop(holder, None)
        if fd is None:
            return
        if try_lock(fd):
            lock_file(self._dram_dir, holder).unlink(missing_ok=True)
        os.close(fd)

    def close(self) -> None:
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()
