"""Removals of the last minutes: what comes from another node may have left it before them."""

import time
from collections import deque
from collections.abc import Callable

from kvstore.parts import DigestParts
from kvstore.types import MARK_NBYTES, Lineage, SegmentSpec

_KEEP_S = 600.0
"""Longer than any call between nodes is under way, the waits before it included."""
_MAX = 65_536
"""Pairs of a tag and a removal that are remembered; beyond it nothing is taken from others until
the forgotten ones would have expired."""


class RecentRemovals:
    """A removal has one id on every node that makes it. Who sends a segment says which removals of
    its passages it had made before; who gets it refuses it when it knows of another: the segment
    may be what was removed. One that is computed again after a removal is sent with its id.

    Not thread-safe: the store's metadata lock guards it.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ids: DigestParts[set[bytes]] = DigestParts()  # of removals, by mark
        self._order: deque[tuple[float, bytes, bytes]] = deque()
        self._open: set[bytes] = set()
        """Begun, and not made."""
        self._refuse_all_until = 0.0

    def add(self, removal: bytes, tag: bytes) -> None:
        """It begins: nothing of the passage is taken that others had before."""
        self._expire()
        mark = tag[:MARK_NBYTES]
        ids = self._ids.get(mark)
        if ids is None:
            self._ids.put(mark, ids := set())
        if removal not in ids:
            self._open.add(removal)
            ids.add(removal)
            self._order.append((self._clock() + _KEEP_S, mark, removal))
        if len(self._order) > _MAX:
            self._refuse_all_until = self._forget()

    def made(self, removal: bytes) -> None:
        """All of it is out of sight here: what is found from now on came since."""
        self._open.discard(removal)

    def of(self, spec: SegmentSpec) -> frozenset[bytes]:
        """Ids of the removals that were made of its passage, or of one that it follows."""
        return self._begun(spec) - self._open

    def refuses(self, spec: SegmentSpec, lineage: Lineage) -> bool:
        """Whether a segment with this lineage may have been removed here since it was sent."""
        if self._clock() < self._refuse_all_until:
            return True
        return not self._begun(spec) <= lineage.removals

    def _begun(self, spec: SegmentSpec) -> frozenset[bytes]:
        self._expire()
        marks = (spec.tag[:MARK_NBYTES], *spec.marks)
        return frozenset(removal for mark in marks for removal in self._ids.get(mark, ()))

    def _expire(self) -> None:
        while self._order and self._order[0][0] <= self._clock():
            self._forget()

    def _forget(self) -> float:
        """When the oldest would have expired."""
        until, mark, removal = self._order.popleft()
        ids = self._ids.get(mark, set())
        ids.discard(removal)
        self._open.discard(removal)
        if not ids:
            self._ids.pop(mark, None)
        return until
