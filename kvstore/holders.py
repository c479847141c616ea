"""Processes of the node that use the store. Each holds a lock file while it lives: no clocks."""

import os
import re
from pathlib import Path

from kvstore.errors import StoreConfigError, StoreUnavailableError
from kvstore.locks import OwnedFile, is_owned, open_existing, sweep, try_lock
from kvstore.types import HolderId

_NAME = re.compile(r"[0-9a-f]{16}")


def holders_folder(dram_dir: str) -> Path:
    """Where lock files of this user are, beside the arena. Made when missing."""
    folder = Path(dram_dir) / f"hyperrag-holders-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        owner = folder.stat().st_uid
    except OSError as error:
        raise StoreConfigError(
            f"store.dram_dir is {dram_dir}, which cannot be written ({error}): "
            f"name a memory file system such as /dev/shm"
        ) from error
    if owner != os.getuid():
        raise StoreConfigError(f"{folder} belongs to user {owner}: remove it")
    return folder


def lives(dram_dir: str, holder: HolderId) -> bool:
    """Whether a process of this node holds the lock file of that name."""
    return bool(_NAME.fullmatch(holder)) and is_owned(holders_folder(dram_dir) / holder)


class Holder:
    """A client's side: this object is alive, says its lock file."""

    def __init__(self, dram_dir: str) -> None:
        self._file = OwnedFile(holders_folder(dram_dir), "")
        self.holder_id = HolderId(self._file.token)

    def close(self) -> None:
        self._file.close()


class Holders:
    """The store's side: the registered ones, and which of them have ended.

    Not thread-safe: the metadata lock guards it.
    """

    def __init__(self, dram_dir: str) -> None:
        self._folder = holders_folder(dram_dir)
        self._fds: dict[HolderId, int] = {}
        sweep(self._folder, "")

    def ensure(self, holder: HolderId) -> None:
        """Know this holder from now on. Raises StoreUnavailableError when it does not live here."""
        if holder in self._fds:
            return
        if not _NAME.fullmatch(holder):
            raise ValueError(f"holder is {holder!r}, must be 16 hex digits")
        fd = open_existing(self._folder / holder)
        if fd is None or try_lock(fd):
            if fd is not None:
                os.close(fd)
            raise StoreUnavailableError(
                f"holder {holder} has no lock in {self._folder}: "
                f"it ended, or its store.dram_dir differs"
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
            (self._folder / holder).unlink(missing_ok=True)
        os.close(fd)

    def close(self) -> None:
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()
