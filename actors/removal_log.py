"""The removals of the last days, as one node knows them: what a node that was away has to be told
before anything that it has is used."""

import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

KEEP_MS = 7 * 24 * 3600 * 1000
"""A node that was away for longer drops what it has."""
MAX_BYTES = 8 * 2**20
"""Of all that is remembered; beyond it the oldest removals are forgotten."""
TAG_BYTES = 8
_RECORD_BYTES = 128
"""Of a removal, beside its tags."""


@dataclass(frozen=True, slots=True)
class Removed:
    """One removal, which every node makes."""

    removal: bytes
    """Its id, 16 bytes."""
    at_ms: int
    """When it was made first, since the epoch of time."""
    packed: bytes
    """The tags of its passages, one behind the other."""

    @property
    def tags(self) -> list[bytes]:
        return [self.packed[i : i + TAG_BYTES] for i in range(0, len(self.packed), TAG_BYTES)]

    @property
    def nbytes(self) -> int:
        return _RECORD_BYTES + len(self.packed)


@dataclass(frozen=True, slots=True)
class Removals:
    since_ms: int
    """Every removal since then is in `entries`."""
    entries: tuple[Removed, ...]


@dataclass(frozen=True, slots=True)
class Kept:
    told_ms: int
    """Up to then the node whose log it is knew of every removal; 0: it never did."""
    removals: Removals


class RemovalLog:
    """Thread-safe. A removal is in it once, in whatever order they come."""

    def __init__(self, clock: Callable[[], float] = time.time):
        """Of the time before nothing is known."""
        self._clock = clock
        self._lock = threading.Lock()
        self._since_ms = self._now_ms()
        self._entries: dict[bytes, Removed] = {}
        self._nbytes = 0
        self.version = 0
        """Grows with every removal that is new here."""

    def note(self, removal: bytes, tags: Collection[bytes]) -> None:
        """A removal that is made now."""
        self.add([Removed(removal, self._now_ms(), b"".join(tags))])

    def add(self, entries: Iterable[Removed]) -> None:
        with self._lock:
            for entry in entries:
                if entry.removal not in self._entries:
                    self._entries[entry.removal] = entry
                    self._nbytes += entry.nbytes
                    self.version += 1
            self._forget()

    def reach_back(self, since_ms: int, is_seamless: bool = True) -> None:
        """All removals since then have been added. Without a seam what was known before stands,
        however far it reaches."""
        with self._lock:
            self._since_ms = min(self._since_ms, since_ms) if is_seamless else since_ms
            self._forget()

    def missing(self, entries: Iterable[Removed]) -> list[Removed]:
        with self._lock:
            return [entry for entry in entries if entry.removal not in self._entries]

    def known(self) -> Removals:
        with self._lock:
            self._forget()
            return Removals(self._since_ms, tuple(self._entries.values()))

    def _forget(self) -> None:
        """In the order in which they came, and the log says how far it reaches."""
        oldest_ms = self._now_ms() - KEEP_MS
        self._since_ms = max(self._since_ms, oldest_ms)
        while self._entries:
            first = next(iter(self._entries.values()))
            if first.at_ms >= oldest_ms and self._nbytes <= MAX_BYTES:
                return
            del self._entries[first.removal]
            self._nbytes -= first.nbytes
            self._since_ms = max(self._since_ms, first.at_ms + 1)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)
