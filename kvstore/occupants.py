"""Which segment is in which run of an allocator, as far as it may be evicted from there."""

from kvstore.allocator import Allocator
from kvstore.types import SegmentKey


class Occupants:
    """Runs that are taken and have no occupant here are nobody's to free: reserved, or read."""

    def __init__(self, allocator: Allocator) -> None:
        self.allocator = allocator
        self._start: dict[SegmentKey, int] = {}
        self._key: dict[int, SegmentKey] = {}

    def enter(self, key: SegmentKey, start: int) -> None:
        self._start[key] = start
        self._key[start] = key

    def leave(self, key: SegmentKey) -> None:
        del self._key[self._start.pop(key)]

    def has(self, key: SegmentKey) -> bool:
        return key in self._start

    def at(self, start: int) -> SegmentKey | None:
        return self._key.get(start)

    def length_if_free(self, key: SegmentKey) -> int:
        """Of its run and the holes beside it, which would be one hole without it."""
        return self.allocator.length_if_free(self._start[key])

    def length_of(self, key: SegmentKey) -> int:
        """In granules."""
        length = self.allocator.length_of(self._start[key])
        assert length is not None, f"{key} is in no run"
        return length

    def start_of(self, key: SegmentKey) -> int:
        return self._start[key]
