"""A disk whose reads pass one at a time, when the test allows it."""

import errno
import os
import threading
import time
from pathlib import Path

from kvstore.store import KVStore
from kvstore.tiers.files import Files
from kvstore.tiers.folder import Folder

_PATIENCE_S = 60.0
"""Then a read fails: the test has, and forgot it."""


class Turnstile(Files):
    """Of a segment's file the header is the first read, each layer one more. Every file that is
    opened may be read as often as was allowed in sum."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._allowed = 0.0
        self._passed: dict[int, int] = {}  # of each open file
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

    def open(self, path: Path | str) -> int:
        fd = super().open(path)
        self._passed[fd] = 0
        return fd

    def read(self, fd: int, into: memoryview, offset: int) -> int:
        with self._changed:
            may_pass = self._changed.wait_for(
                lambda: self._fails or self._passed[fd] < self._allowed, _PATIENCE_S
            )
            if self._fails or not may_pass:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            self._passed[fd] += 1
            self.num_reads += 1
        time.sleep(self.delay_s)
        return super().read(fd, into, offset)
