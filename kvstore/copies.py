"""Copies of what other nodes own: kept in DRAM alone, under a bound of their own, and the least
recently used goes first."""

from collections import OrderedDict
from collections.abc import Callable, Container, Iterable, Sequence

from kvstore.tiers.base import Entry
from kvstore.types import SegmentKey

Owns = Callable[[Sequence[SegmentKey]], Sequence[bool]]
"""Of each of the segments, whether it is the node's own."""

_MAX_USES = 65_536
"""That are remembered; further ones are not told."""
_MAX_HELD = 64
"""That are passed over at a time: a device tier may hold most of them, for long."""
_MAX_GOING = 32
"""That go at a time: the lock is held meanwhile."""


class Copies:
    """Which segments in DRAM are copies. Not thread-safe: the metadata lock guards it."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._nbytes: OrderedDict[SegmentKey, int] = OrderedDict()
        self._used = 0
        self._uses: list[SegmentKey] = []

    @property
    def used_bytes(self) -> int:
        return self._used

    def __contains__(self, key: object) -> bool:
        return key in self._nbytes

    def add(self, entry: Entry) -> None:
        self.discard(entry.key)
        self._nbytes[entry.key] = entry.nbytes
        self._used += entry.nbytes

    def discard(self, key: SegmentKey) -> None:
        self._used -= self._nbytes.pop(key, 0)

    def touch(self, leaf_first: Iterable[SegmentKey]) -> None:
        for key in leaf_first:
            if key in self._nbytes:
                self._nbytes.move_to_end(key)
                if len(self._uses) < _MAX_USES:
                    self._uses.append(key)

    def take_uses(self) -> list[SegmentKey]:
        """Every use since the last call, in their order, paths leaf first."""
        taken, self._uses = self._uses, []
        return taken

    def excess(self, held: Container[SegmentKey]) -> list[SegmentKey]:
        """The least recently used that have to go for the bound to hold; what is held stays, and
        counts as used now. A few at a time: of many it finds the end in later calls."""
        over, going, busy = self._used - self._max_bytes, list[SegmentKey](), list[SegmentKey]()
        for key, nbytes in self._nbytes.items():
            if over <= 0 or len(busy) == _MAX_HELD or len(going) == _MAX_GOING:
                break
            if key in held:
                busy.append(key)
            else:
                going.append(key)
                over -= nbytes
        for key in busy:
            self._nbytes.move_to_end(key)
        return going

    def keys(self) -> list[SegmentKey]:
        return list(self._nbytes)
