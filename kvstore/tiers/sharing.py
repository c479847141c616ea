"""One store among others on a shared medium: which objects are its own, and what it knows of the
rest.

Its own are those that carry its identity as their writer. They count towards its bound and are
evicted by the uses it has seen. What others wrote is read by key, and known in a bounded number, so
that it can be read ahead; it counts nothing and is never evicted from here.
"""

import errno
from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush

from kvstore.codec import NOBODY, Label
from kvstore.compression import Codec
from kvstore.seal import Seal
from kvstore.tiers.base import Entry
from kvstore.tiers.medium import Listed, Medium
from kvstore.tiers.segment_object import Stored
from kvstore.types import SegmentSpec

_MAX_SWEEPS = 32
"""Listings, each of which finds one more segment of the longest chain at least."""
MAX_FOREIGN = 8192
"""Objects of others that a store knows of, the last used; of more it asks the medium by key."""


@dataclass(frozen=True, slots=True)
class Sharing:
    writer: bytes = NOBODY
    """This store's identity."""
    evicts: bool = True
    """Whether it evicts its own; if not, the bucket's lifecycle does, and nothing is its own."""
    seal: Seal | None = None
    max_object_bytes: int = 2**63
    """Larger objects are nobody's hit: no segment is that large here."""

    def owns(self, label: Label) -> bool:
        return self.evicts and label.writer == self.writer

    def can_use(self, listed: Listed) -> bool:
        """Whether its size is possible and, as far as the listing shows it, the key its own."""
        return listed.nbytes <= self.max_object_bytes and not self._is_of_another_key(listed)

    def _is_of_another_key(self, listed: Listed) -> bool:
        seal = NOBODY if self.seal is None else self.seal.digest
        return listed.label is not None and listed.label.seal != seal


class Survey:
    """A listing as it goes by: in memory are the store's own objects up to its bound, and a few of
    others', of either the last used."""

    def __init__(self, sharing: Sharing, max_bytes: int, codec: Codec) -> None:
        self._sharing = sharing
        self._codec = codec
        self._max_bytes = max_bytes
        self._nbytes = 0
        self._kept: dict[str, Stored] = {}
        self._own: list[tuple[float, str]] = []
        self._foreign: list[tuple[float, str]] = []
        self.num_refused = 0
        """In a codec that is no hit here."""

    def see(self, listed: Listed) -> list[str]:
        """Names of own objects that have no place any more: beyond the bound, or not of use."""
        label = listed.label
        if label is None or listed.name in self._kept:
            return []
        own, is_accepted = self._sharing.owns(label), self._codec.accepts(label.codec)
        self.num_refused += not is_accepted
        if not is_accepted or not self._sharing.can_use(listed):
            return [listed.name] if own else []
        entry = Entry(label.spec, listed.nbytes, listed.last_use)
        self._kept[listed.name] = Stored(entry, listed.name, own, label.writer)
        heappush(self._own if own else self._foreign, (listed.last_use, listed.name))
        self._nbytes += listed.nbytes if own else 0
        return self._excess()

    def kept(self) -> list[Stored]:
        """Most recently used first."""
        return sorted(self._kept.values(), key=lambda it: it.entry.last_use, reverse=True)

    def _excess(self) -> list[str]:
        if len(self._foreign) > MAX_FOREIGN:
            del self._kept[heappop(self._foreign)[1]]
        beyond = []
        while self._nbytes > self._max_bytes:
            stored = self._kept.pop(heappop(self._own)[1])
            self._nbytes -= stored.entry.nbytes
            beyond.append(stored.name)
        return beyond


def survey(medium: Medium, seen: Survey, is_stopped: Callable[[], bool]) -> None:
    """List the medium. Own objects that have no place are deleted. Raises OSError."""
    for listed in medium.list():
        if is_stopped():
            return
        for name in seen.see(listed):
            medium.delete(name)


def sweep(
    medium: Medium, is_doomed: Callable[[SegmentSpec], bool], is_stopped: Callable[[], bool]
) -> None:
    """Delete what is doomed, whoever wrote it: the store that did may be gone for good. A child is
    doomed once its parent was seen, and may be listed before it; so the last listing is one that
    shows nothing of the kind. Raises OSError."""
    for _ in range(_MAX_SWEEPS):
        num_deleted = 0
        for listed in medium.list():
            if is_stopped():
                raise OSError(errno.ECANCELED, "the store is closing")
            if listed.label is not None and is_doomed(listed.label.spec):
                medium.delete(listed.name)
                num_deleted += 1
        if not num_deleted:
            return
    raise OSError(errno.EAGAIN, f"{_MAX_SWEEPS} listings showed more of what was deleted")
