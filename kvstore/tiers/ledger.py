"""What a slow tier knows of its medium: every object, in which state, and the bytes of all."""

import threading
from collections.abc import Iterable, Mapping
from itertools import chain
from operator import itemgetter

from kvstore.parts import Parts
from kvstore.tiers.segment_object import Stored
from kvstore.types import SegmentKey


class Ledger:
    """Thread-safe. `used` is the sum of all that is stored and this store's own, on its way in or
    out, or listed and not read yet: what an operation may leave behind is counted until it is known
    to be gone. What other stores wrote is known, and counts nothing."""

    def __init__(self, exclusive: bool) -> None:
        """`exclusive`: nobody else writes, so what was listed is all there is."""
        self._exclusive = exclusive
        self._lock = threading.Lock()
        self._stored: Parts[SegmentKey, Stored] = Parts()
        self._writing: dict[SegmentKey, int] = {}
        self._leaving: Parts[Stored, int] = Parts()
        """Out of sight, not yet off the medium, with the number of the departure."""
        self._leaving_names: Parts[str, int] = Parts()
        self._unread: Parts[str, int] = Parts()  # listed, but their header was not read yet
        self.is_listed = False
        self.used = 0
        self.num_refused = 0
        """Objects that are there and no hit here, each time that they are found."""
        self.num_departures = 0
        """How many objects began to leave, since the start."""
        self._news: set[str] | None = None  # names that came to be known during `listed`

    def find(self, key: SegmentKey) -> Stored | None:
        return self._stored.get(key)

    def stored(self) -> list[Stored]:
        with self._lock:
            stored = self._stored.copy()
        return list(stored.values())

    def is_leaving(self, stored: Stored) -> bool:
        return stored in self._leaving

    def leaving(self, after: int = 0) -> list[Stored]:
        """Out of sight, and perhaps on the medium still: the latest first, without those of the
        first `after` departures."""
        with self._lock:
            leaving = self._leaving.copy()
        found = ((number, one) for one, number in leaving.items() if number > after)
        return [one for _, one in sorted(found, key=itemgetter(0), reverse=True)]

    def unread(self) -> list[str]:
        """Names of objects that were listed, and could not be looked into."""
        with self._lock:
            unread = self._unread.copy()
        return list(unread)

    @property
    def is_settled(self) -> bool:
        """Whether all that is on the medium is stored or being written."""
        return not self._leaving and not self._unread

    def is_stored(self, name: str) -> bool:
        return any(stored.name == name for stored in self.stored())

    def is_unread(self, name: str) -> bool:
        return name in self._unread

    def unknown(self, names: Iterable[str]) -> list[str]:
        """Those that are in no state here, and cannot be of an object that is being written."""
        with self._lock:  # copies alone: who holds the metadata lock may wait for this one
            stored, leaving = self._stored.copy(), self._leaving.copy()
            unread, writing = self._unread.copy(), list(self._writing)
        here = chain(stored.values(), leaving)
        known, coming = {one.name for one in here}.union(unread), list(map(str, writing))
        strange = [name for name in names if name not in known]
        return [name for name in strange if not any(key in name for key in coming)]

    def begin(self, key: SegmentKey, nbytes: int, limit: int) -> bool | None:
        """Count an object that is about to be written: True. None when it would pass `limit`, False
        when the key is there or on its way already."""
        with self._lock:
            if key in self._stored or key in self._writing:
                return False
            if self.used + nbytes > limit:
                return None
            self.used += nbytes
            self._writing[key] = nbytes
        return True

    def end(self, key: SegmentKey, stored: Stored | None) -> None:
        """The write that was begun is over, with what it left."""
        with self._lock:
            self.used -= self._writing.pop(key)
            if stored is not None and key not in self._stored:  # else a reader adopted it already
                self._add(stored)

    def detach(self, key: SegmentKey) -> Stored | None:
        """Out of sight, still counted."""
        with self._lock:
            stored = self._stored.pop(key, None)
            if stored is not None:
                self._depart(stored)
        return stored

    def left(self, stored: Stored) -> None:
        """A detached one's bytes are gone. Idempotent."""
        with self._lock:
            if stored in self._leaving:
                self._leaving.pop(stored)
                if left := self._leaving_names.pop(stored.name) - 1:
                    self._leaving_names.put(stored.name, left)
                self.used -= stored.charged_bytes

    def drop(self, key: SegmentKey) -> None:
        """Know nothing of it any more; it stays where it is."""
        with self._lock:
            if stored := self._stored.pop(key, None):
                self.used -= stored.charged_bytes

    def listed(self, charges: Mapping[str, int]) -> None:
        """Count what a listing shows and nobody knows: bytes by name. Worked out beside the lock,
        from copies: who holds the metadata lock may wait for this one."""
        with self._lock:
            stored, leaving = self._stored.copy(), self._leaving.copy()
            news = self._news = set[str]()
        known = {one.name for one in chain(stored.values(), leaving)}
        unread = Parts((name, n) for name, n in charges.items() if name not in known)
        nbytes = sum(unread.values())
        with self._lock:
            nbytes -= sum(unread.pop(name, 0) for name in news)
            self._unread, self._news = unread, None
            self.used += nbytes
            self.is_listed = True

    def forget(self, name: str) -> None:
        """One that was listed is not there any more."""
        with self._lock:
            self.used -= self._unread.pop(name, 0)

    def refuse(self, name: str) -> None:
        """One that was found is no hit here; where it was listed it is gone now."""
        with self._lock:
            self.num_refused += 1
        self.forget(name)

    def adopt(self, stored: Stored, recovered: bool) -> bool:
        """Store what was found on the medium. False when it was adopted, or is gone, already; or
        when the key has another object: then this one is leaving now."""
        key = stored.entry.key
        with self._lock:
            was_listed = recovered or (self.is_listed and self._exclusive)
            known = self._stored.get(key)
            if was_listed and stored.name not in self._unread:
                return False
            if known is not None and known.name == stored.name:
                return False
            if known is not None and not stored.own:  # another store's double is no concern here
                return False
            self.used -= self._unread.pop(stored.name, 0)
            if known is None:
                self._add(stored)
            else:  # a crash between a new object and the end of the old one
                self.used += stored.charged_bytes
                self._depart(stored)
        return known is None

    def condemn(self, stored: Stored) -> None:
        """What was found on the medium is leaving now, without having been in sight."""
        with self._lock:
            is_known = stored.name in self._leaving_names
            is_gone = self.is_listed and self._exclusive and stored.name not in self._unread
            if not is_known and not is_gone:
                self.used += stored.charged_bytes - self._unread.pop(stored.name, 0)
                self._depart(stored)

    def imbalance(self) -> str:
        """What does not add up; empty is right."""
        with self._lock:
            stored, leaving, used = self._stored.copy(), self._leaving.copy(), self.used
            unread, writing = self._unread.copy(), list(self._writing.values())
        here = [*stored.values(), *leaving]
        total = sum(one.charged_bytes for one in here) + sum(unread.values()) + sum(writing)
        return f"{len(here)} objects of {total} bytes, counted {used}" if total != used else ""

    def _add(self, stored: Stored) -> None:
        self._stored.put(stored.entry.key, stored)
        self.used += stored.charged_bytes
        if self._news is not None:
            self._news.add(stored.name)

    def _depart(self, stored: Stored) -> None:
        self.num_departures += 1
        self._leaving.put(stored, self.num_departures)
        self._leaving_names.put(stored.name, self._leaving_names.get(stored.name, 0) + 1)
        if self._news is not None:
            self._news.add(stored.name)
