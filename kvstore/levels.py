"""A slow tier as the store sees it: its shelf, what waits to be written, what was counted.

The metadata lock guards all of it; calls to the tier's medium happen outside of the lock.
"""

from collections import OrderedDict

from kvstore.codec import file_nbytes
from kvstore.config import Admission
from kvstore.policies import EvictionPolicy
from kvstore.shelf import Shelf
from kvstore.tiers.dram import Slot
from kvstore.tiers.segment_object import Stored
from kvstore.tiers.slow import SlowTier
from kvstore.types import SegmentKey, TierName, TierStats

_SEEN = 65_536
"""Keys of which the admission filter remembers that they were seen once."""


class Level:
    def __init__(
        self, tier: SlowTier, policy: EvictionPolicy, write_queue: int, admission: Admission
    ) -> None:
        self.tier = tier
        self.shelf = Shelf(policy)
        self.unwritten: OrderedDict[SegmentKey, Slot] = OrderedDict()
        """Published, waiting to be written; first come, first written."""
        self.writing: SegmentKey | None = None
        """Perhaps in the tier already, not yet on the shelf."""
        self.recovering = True
        self.slow = False
        """A read has been hanging for too long: nothing more is read until one returns."""
        self.read_bytes = self.written_bytes = 0
        self.write_failures = self.writes_dropped = 0
        self._write_queue = write_queue
        self._seen: OrderedDict[SegmentKey, None] | None = None
        if admission == "second_use":
            self._seen = OrderedDict()

    @property
    def name(self) -> TierName:
        return self.tier.name

    @property
    def idle(self) -> bool:
        """Recovered, and everything was written or given up."""
        return not self.recovering and not self.unwritten and self.writing is None

    def may_have(self, key: SegmentKey) -> bool:
        """On the shelf, or perhaps on the medium: not listed yet, or written by another store."""
        return key in self.shelf or not self.tier.complete

    def offer(self, slot: Slot) -> bool:
        """A segment that was published or used: whether it is to be written now."""
        key = slot.spec.key
        if key in self.shelf or key in self.unwritten or key == self.writing:
            return False
        if not self._admits(key):
            return False
        too_big = file_nbytes(slot.spec) > self.tier.usable_bytes and not self.recovering
        if too_big or len(self.unwritten) >= self._write_queue:
            self.writes_dropped += 1
            return False
        self.unwritten[key] = slot
        return True

    def withdraw(self, key: SegmentKey, evicted: bool) -> bool:
        """Its bytes are leaving the memory: whether it waited to be written."""
        if self.unwritten.pop(key, None) is None:
            return False
        self.writes_dropped += evicted
        return True

    def adopt(self, stored: Stored, recovered: bool = False) -> Stored | None:
        """Know of an object that was found; a double of what is known is returned, to be discarded
        without the lock."""
        if self.tier.adopt(stored, recovered):
            try:
                self.shelf.add(stored.entry, recovered=recovered)
            except BaseException:
                self.tier.detach(stored.entry.key)
                raise
            return None
        return stored if self.tier.is_leaving(stored) else None

    def detach(self, key: SegmentKey, evicted: bool = False) -> Stored | None:
        """Out of sight; the caller discards the object without the lock."""
        if key not in self.shelf:
            return None
        self.shelf.remove(key, evicted)
        return self.tier.detach(key)

    def forget(self, key: SegmentKey) -> bool:
        """The tier found that its object is gone; whether that was news here."""
        gone = key in self.shelf and not self.tier.contains(key)
        if gone:
            self.shelf.remove(key)
        return gone

    def stats(self) -> TierStats:
        return TierStats(
            self.tier.capacity_bytes,
            self.tier.used_bytes,
            len(self.shelf),
            self.shelf.hits,
            self.shelf.evictions,
            self.read_bytes,
            self.written_bytes,
            self.write_failures,
            self.writes_dropped,
            len(self.unwritten),
        )

    def _admits(self, key: SegmentKey) -> bool:
        """Everything, or what is seen for the second time."""
        if self._seen is None:
            return True
        if key in self._seen:
            del self._seen[key]
            return True
        self._seen[key] = None
        if len(self._seen) > _SEEN:
            self._seen.popitem(last=False)
        return False
