"""Which segment is in which run of an allocator, as far as it may be evicted from there."""

from kvstore.allocator import Allocator
from kvstore.parts import NUM_PARTS, DigestParts
from kvstore.types import SegmentKey


class Occupants:
    """Runs that are taken and have no occupant here are nobody's to free: reserved, or read."""

    def __init__(self, allocator: Allocator) -> None:
        self.allocator = allocator
        self._start: DigestParts[int] = DigestParts()  # by the digests of their keys
        self._shift = (allocator.num_granules // NUM_PARTS).bit_length()
        num_stretches = (allocator.num_granules >> self._shift) + 1
        self._keys: list[dict[int, SegmentKey]] = [{} for _ in range(num_stretches)]
        """By the start of their run, in a dict for each stretch of granules."""

    def enter(self, key: SegmentKey, start: int) -> None:
        self._start.put(key.digest, start)
        self._keys[start >> self._shift][start] = key

    def leave(self, key: SegmentKey) -> None:
        start = self._start.pop(key.digest)
        del self._keys[start >> self._shift][start]

    def has(self, key: SegmentKey) -> bool:
        return self._start.has(key.digest)

    def at(self, start: int) -> SegmentKey | None:
        return self._keys[start >> self._shift].get(start)

    def length_if_free(self, key: SegmentKey) -> int:
        """Of its run and the holes beside it, which would be one hole without it."""
        return self.allocator.length_if_free(self.start_of(key))

    def length_of(self, key: SegmentKey) -> int:
        """In granules."""
        length = self.allocator.length_of(self.start_of(key))
        assert length is not None, f"{key} is in no run"
        return length

    def start_of(self, key: SegmentKey) -> int:
        start = self._start.get(key.digest)
        assert start is not None, f"{key} occupies nothing"
        return start
