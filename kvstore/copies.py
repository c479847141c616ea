"""Copies of what other nodes own: kept in DRAM alone, under a bound of their own, and the least
recently used goes first."""

from collections.abc import Callable, Iterable, Sequence

from kvstore.holds import Holds
from kvstore.policies import create_policy
from kvstore.shelf import Shelf
from kvstore.tiers.base import Entry
from kvstore.types import SegmentKey

Owns = Callable[[Sequence[SegmentKey]], Sequence[bool]]
"""Of each of the segments, whether it is the node's own."""

_MAX_USES = 65_536
"""That are remembered; further ones are not told."""
_MAX_GOING = 8
"""That go at a time: the lock is held meanwhile."""


class Copies:
    """Which segments in DRAM are copies. Not thread-safe: the metadata lock guards it."""

    def __init__(self, max_bytes: int, holds: Holds) -> None:
        """`holds`: of segments in DRAM. What is held is not in the order of eviction."""
        self._max_bytes = max_bytes
        self.shelf = Shelf(create_policy("lru"))
        self._uses: list[SegmentKey] = []
        self._holds = holds
        holds.follow(self)

    @property
    def used_bytes(self) -> int:
        return self.shelf.nbytes

    def __contains__(self, key: object) -> bool:
        return self.used_bytes > 0 and isinstance(key, SegmentKey) and key in self.shelf

    def add(self, entry: Entry) -> None:
        self.discard(entry.key)
        self.shelf.add(entry)
        if entry.key.digest in self._holds:
            self.hold(entry.key.digest)

    def discard(self, key: SegmentKey) -> None:
        if key in self:
            self.unhold(key.digest)
            self.shelf.remove(key)

    def hold(self, digest: bytes) -> None:
        if self.used_bytes and self.shelf.key_of(digest):
            self.shelf.policy.hold(digest)

    def unhold(self, digest: bytes) -> None:
        if self.used_bytes and self.shelf.key_of(digest):
            self.shelf.policy.unhold(digest)

    def touch(self, leaf_first: Iterable[SegmentKey]) -> None:
        if not self.used_bytes:
            return
        here = [key for key in leaf_first if key in self.shelf]
        self.shelf.touch(here)
        self._uses += here[: _MAX_USES - len(self._uses)]

    def take_uses(self) -> list[SegmentKey]:
        """Every use since the last call, in their order, paths leaf first."""
        taken, self._uses = self._uses, []
        return taken

    def excess(self) -> list[SegmentKey]:
        """What has to go for the bound to hold, the least recently used and leaves first; of what
        somebody holds nothing, and then not all that should. A few at a time."""
        return self.shelf.next_to_go(self.used_bytes - self._max_bytes, limit=_MAX_GOING)
