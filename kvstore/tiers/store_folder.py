"""A folder on a disk that one store has for itself.

    <folder>/HYPERRAG-STORE       says that what is here is a store's
    <folder>/LOCK                 locked by the store that runs (`folder_lock.py`)

Whoever empties and trims a folder has to know that it is theirs. So a folder that is empty is
marked before anything else is made there, and one that is neither empty nor marked is refused. It
is this user's, no link, and nobody else may look into it: what others put into a folder that was
open to them is no object of the store (`kvstore/tiers/folder.py`).
"""

import errno
import logging
import os
import stat
import time
from pathlib import Path

from kvstore.errors import StoreConfigError
from kvstore.locks import is_own_file
from kvstore.tiers.files import Files
from kvstore.tiers.folder_lock import LOCK, FolderLock

logger = logging.getLogger(__name__)

MARK = "HYPERRAG-STORE"
_MARK_TEXT = b"This folder belongs to a HyperRAG store, which removes files of its own here.\n"
_RETRY_S = 0.05


class StoreFolder:
    """Ours until `close`, or until the process ends."""

    def __init__(self, path: Path, setting: str, wait_s: float = 1.0) -> None:
        """Make the folder if it is missing; a predecessor gets `wait_s` to finish dying.

        Raises StoreConfigError, with the remedy, when it is not to be had; nothing in it was
        changed then.
        """
        self.path = path
        self._shown = f"{setting} is {path}, which"
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise self._refused(error) from error
        self._lock = FolderLock(self._fd)
        self._mark_lasts = False
        try:
            self._take(wait_s)
        except OSError as error:
            self.close()
            raise self._refused(error) from error
        except BaseException:
            self.close()
            raise

    @property
    def is_there(self) -> bool:
        """Whether the path still leads to the folder that was taken."""
        try:
            return os.path.samestat(os.lstat(self.path), os.fstat(self._fd))
        except FileNotFoundError:
            return False

    def keep(self, files: Files) -> None:
        """Its mark and its lock have their names, to stay, whoever removed them. For its owner,
        before anything else is made here: a restart after a power cut would refuse a folder without
        its mark. Raises OSError; FileNotFoundError when the path leads elsewhere."""
        if not self.is_there:
            raise FileNotFoundError(errno.ENOENT, "another folder is here", str(self.path))
        self._lock.keep()
        if self._mark_lasts and self.is_marked:
            return
        if not self.is_marked:
            fd = files.create(self.path / MARK)
            try:
                files.write(fd, memoryview(_MARK_TEXT))  # the name says it all
                files.sync(fd)
            finally:
                os.close(fd)
        files.sync_folder(self.path)
        self._mark_lasts = True

    def close(self) -> None:
        """Idempotent."""
        self._lock.close()
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def _take(self, wait_s: float) -> None:
        found = os.fstat(self._fd)
        if found.st_uid != os.geteuid():
            raise StoreConfigError(
                f"{self._shown} belongs to user {found.st_uid}: name a folder below it, which the "
                f"store makes for itself"
            )
        if not self.is_marked:
            self._require_empty()
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            logger.warning("%s others could write to: now it is this user's alone", self._shown)
        if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):  # who may read it may lock it, too
            os.fchmod(self._fd, 0o700)
        self._take_lock(wait_s)
        if not self.is_marked:
            self._require_empty()  # and nobody else can put anything there any more

    @property
    def is_marked(self) -> bool:
        try:
            return is_own_file(os.lstat(MARK, dir_fd=self._fd))
        except FileNotFoundError:
            return False

    def _require_empty(self) -> None:
        """But for the lock file of a store that ended before it could mark the folder."""
        for name in sorted(os.listdir(self._fd)):
            if name != LOCK or not is_own_file(os.lstat(name, dir_fd=self._fd)):
                raise StoreConfigError(
                    f"{self._shown} holds {name!r} and no file {MARK} of this user, so that it is "
                    f"not a store's: name an empty folder, or one that does not exist yet"
                )

    def _take_lock(self, wait_s: float) -> None:
        give_up = time.monotonic() + wait_s
        while not self._try_lock():
            if time.monotonic() >= give_up:
                raise StoreConfigError(
                    f"{self._shown} another running store owns: "
                    f"stop that store, or give this one a folder of its own"
                )
            time.sleep(_RETRY_S)

    def _try_lock(self) -> bool:
        try:
            return self._lock.try_take()
        except FileExistsError:
            raise StoreConfigError(
                f"{self._shown} holds a {LOCK} that is no regular file of this user: remove it"
            ) from None

    def _refused(self, error: OSError) -> StoreConfigError:
        return StoreConfigError(
            f"{self._shown} cannot be used ({error.strerror}): choose a folder, no link, that this "
            f"user may write to, or leave the setting empty to do without this tier"
        )
