"""The durable list of deletions that a slow tier has not made yet.

    <ssd_dir>/DELETIONS            the list (`deletion_records.py`)
    <ssd_dir>/DELETIONS.damaged    one that may have named more than could be read, for an operator

A record is on the disk before the deletion is acknowledged. The list is read before anything is
served from a tier. A damaged one stays until the SSD is empty; then it is set aside, and what was
whole in it goes on.
"""

import errno
import os
import threading
from collections.abc import Collection, Sequence
from pathlib import Path

from kvstore.deletion_records import MARK, Deletion, Found, decode, encode, header
from kvstore.tiers.durable import append_file, read_file, replace_file
from kvstore.tiers.files import Files
from kvstore.types import TierName

NAME = "DELETIONS"
ASIDE = "DELETIONS.damaged"
MAX_BYTES = 64 * 2**20


class DeletionList:
    """Thread-safe. Its calls take as long as the disk does."""

    def __init__(self, folder: Path, files: Files) -> None:
        self.path = folder / NAME
        self.aside = folder / ASIDE
        self._files = files
        self._lock = threading.Lock()
        self._entries: list[Deletion] = []
        self._ended: dict[TierName, int] = {}
        self.is_read = False
        """Until then nothing may be written to it."""
        self._nbytes = 0  # of the file; 0: it is written anew before it is relied on
        self._damage = ""
        self._damaged = b""  # what is set aside

    def load(self) -> Found:
        """What a predecessor left. A list that cannot be read counts as damaged."""
        data = None
        try:
            data = read_file(self._files, self.path, MAX_BYTES)
            found = Found() if data is None else decode(data)
        except OSError as error:
            found = Found(damage=f"cannot be read: {error}")
        self._damage = found.damage
        self._damaged = data or b""
        return found

    @property
    def is_lossy(self) -> bool:
        """Whether deletions were lost with a damaged list, this one or one that is set aside."""
        return bool(self._damage) or os.path.lexists(self.aside)

    def keep(self, deletions: Collection[Deletion]) -> None:
        """These are in the file, as it was loaded."""
        self._entries = list(deletions)
        self.is_read = True

    def record(self, deletions: Sequence[Deletion]) -> None:
        """They outlast a restart, and a power cut, from now on. Raises OSError; ENOSPC when the
        list is full. A damaged one stays as it is until the SSD, which it empties, is empty."""
        with self._lock:
            if not self.is_read:
                raise OSError(errno.EAGAIN, f"{self.path} is not read yet")
            if self._damage:
                raise OSError(errno.EIO, f"{self.path} {self._damage}")
            new = [d for d in deletions if d.version > self._ended.get(d.tier, 0)]
            data = b"".join(map(encode, new))
            if not self._nbytes:
                self._rewrite([*self._entries, *new])
            elif new:
                nbytes = _bounded(self._nbytes + len(data) + len(MARK))
                self._nbytes = 0
                append_file(self._files, self.path, data, MARK)
                self._nbytes = nbytes
            self._entries += new

    def end(self, tier: TierName, version: int) -> None:
        """The tier has made its deletions up to this version. Raises OSError; then they stand."""
        with self._lock:
            self._ended[tier] = max(version, self._ended.get(tier, 0))
            left = [d for d in self._entries if d.tier != tier or d.version > version]
            if self._damage:
                if tier == "ssd":
                    self._mend(left)
            elif len(left) < len(self._entries):
                self._rewrite(left)
            self._entries = left

    def _mend(self, entries: Sequence[Deletion]) -> None:
        """The damaged list is aside before another takes its place."""
        replace_file(self._files, self.aside, self._damaged)
        self._rewrite(entries)
        self._damage, self._damaged = "", b""

    def _rewrite(self, entries: Sequence[Deletion]) -> None:
        self._nbytes = 0
        data = header() + b"".join(map(encode, entries)) + MARK
        nbytes = _bounded(len(data))
        replace_file(self._files, self.path, data)
        self._nbytes = nbytes


def _bounded(nbytes: int) -> int:
    """Raises OSError for more than the list may have."""
    if nbytes > MAX_BYTES:
        raise OSError(errno.ENOSPC, f"{NAME} has its {MAX_BYTES} bytes")
    return nbytes
