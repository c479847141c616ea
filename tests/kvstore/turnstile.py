"""A disk whose reads pass one at a time, when the test allows it."""

import errno
import os
import threading
import time

from kvstore.store import KVStore
from kvstore.tiers.files import Files
from kvstore.tiers.folder import Folder


class Turnstile(Files):
    """Of a segment's file the header is the first read, each layer one more."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._allowed = 0.0
        self._fails = False
        self.delay_s = 0.0
        """Of a read that may pass."""
        self.num_reads = 0
        """That have passed."""

    @classmethod
    def of(cls, store: KVStore) -> "Turnstile":
        """In front of the SSD of a running store."""
        medium = store._books.levels[0].tier._medium
        assert isinstance(medium, Folder)
        turnstile = medium._files = cls()
        return turnstile

    def allow(self, num_reads: float = float("inf")) -> None:
        with self._changed:
            self._allowed += num_reads
            self._changed.notify_all()

    def fail(self) -> None:
        """Every read from now on, those that wait too."""
        with self._changed:
            self._fails = True
            self._changed.notify_all()

    def mend(self) -> None:
        self._fails = False

    def read(self, fd: int, into: memoryview, offset: int) -> int:
        with self._changed:
            assert self._changed.wait_for(lambda: self._fails or self._allowed >= 1, 30)
            if self._fails:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            self._allowed -= 1
            self.num_reads += 1
        time.sleep(self.delay_s)
        return super().read(fd, into, offset)
