"""A slow tier as the store sees it: its shelf, what waits to be written, what was counted.

The metadata lock guards all of it; calls to the tier's medium happen outside of the lock.
"""

from collections import OrderedDict

from kvstore.config import Admission
from kvstore.latest import Latest
from kvstore.policies import EvictionPolicy, NextUse, create_policy
from kvstore.shares import Shares
from kvstore.shelf import Shelf
from kvstore.tiers.base import Entry
from kvstore.tiers.dram import Slot
from kvstore.tiers.segment_object import Stored
from kvstore.tiers.sharing import MAX_FOREIGN
from kvstore.tiers.slow import SlowTier
from kvstore.tombstones import Tombstones
from kvstore.types import SegmentKey, SegmentSpec, TierName, TierStats

_SEEN = 65_536
"""Keys of which the admission filter remembers that they were seen once."""


class Level:
    def __init__(
        self,
        tier: SlowTier,
        policy: EvictionPolicy,
        write_queue: int,
        admission: Admission,
        tenant_share: float,
    ) -> None:
        self.tier = tier
        self.shares = Shares(tenant_share, lambda: tier.capacity_bytes)
        """Of what is on the shelf."""
        self.shelf = Shelf(policy, self.shares)
        self.foreign = Shelf(create_policy("lru"))
        """What other stores wrote to a shared tier and was seen here: not this store's to evict."""
        self.unwritten: OrderedDict[SegmentKey, Slot] = OrderedDict()
        """Published, waiting to be written; first come, first written."""
        self.writing: SegmentKey | None = None
        """Perhaps in the tier already, not yet on the shelf."""
        self.recovering = True
        self.slow = False
        """A read has been hanging for too long: nothing more is read until one returns."""
        self.distrust = ""
        """Why nothing is read from it or written to it, where that is so: it may have what was
        removed, and nobody knows what that was."""
        self.read_bytes = self.written_bytes = 0
        self.write_failures = self.writes_dropped = 0
        self.tombstones = Tombstones()
        self._write_queue = write_queue
        self._seen: Latest[bool] | None = Latest(_SEEN) if admission == "second_use" else None

    @property
    def name(self) -> TierName:
        return self.tier.name

    @property
    def idle(self) -> bool:
        """Recovered, and everything was written or given up."""
        return not self.recovering and not self.unwritten and self.writing is None

    @property
    def shelves(self) -> tuple[Shelf, Shelf]:
        return self.shelf, self.foreign

    def __contains__(self, key: SegmentKey) -> bool:
        return key in self.shelf or key in self.foreign

    def spec(self, key: SegmentKey) -> SegmentSpec | None:
        return self.shelf.spec(key) or self.foreign.spec(key)

    def entry(self, key: SegmentKey) -> Entry | None:
        return self.shelf.entry(key) or self.foreign.entry(key)

    def may_have(self, spec: SegmentSpec) -> bool:
        """Known, or perhaps on the medium: not listed yet, or written by another store; and not
        deleted."""
        if self.distrust or self.tombstones.dooms(spec):
            return False
        return spec.key in self or not self.tier.complete

    def offer(self, slot: Slot) -> bool:
        """A segment that was published or used: whether it is to be written now."""
        key = slot.spec.key
        if self.distrust or key in self or key in self.unwritten or key == self.writing:
            return False
        if self.tombstones.dooms(slot.spec) or not self.shelf.can_add(slot.spec):
            return False
        if not self.tier.takes(slot.spec) or not self._admits(key):
            return False
        too_big = (
            self.tier.object_nbytes(slot.spec) > self.tier.usable_bytes and not self.recovering
        )
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

    def victims(self, spec: SegmentSpec, nbytes: int, next_use: NextUse) -> list[SegmentKey]:
        """What to evict for a segment, for which `nbytes` are missing; nothing where that cannot
        be."""
        turns = self.shares.turns(spec.tenant, self.tier.object_nbytes(spec))
        return self.shelf.victims(nbytes, next_use, turns)

    def adopt(self, stored: Stored, recovered: bool = False) -> Stored | None:
        """Know of an object that was found; a double of what is known is returned, to be discarded
        without the lock. What was deleted is not taken in: it leaves the tier."""
        if self.tombstones.dooms(stored.entry.spec):
            self.tier.condemn(stored)
            return None
        if self.tier.adopt(stored, recovered):
            try:
                self.know(stored, recovered)
            except BaseException:
                self.tier.detach(stored.entry.key)
                raise
            return None
        return stored if self.tier.is_leaving(stored) else None

    def know(self, stored: Stored, recovered: bool = False) -> None:
        """The tier has it: put it on its shelf; what contradicts that is dropped. Of others'
        objects the least recently used that are too many are forgotten."""
        shelf = self.shelf if stored.own else self.foreign
        if not shelf.can_add(stored.entry.spec):
            self.tier.drop(stored.entry.key)
            return
        shelf.add(stored.entry, recovered=recovered)
        if len(self.foreign) > MAX_FOREIGN:
            for key in self.foreign.next_to_go(1):
                self.drop(key)

    def drop(self, key: SegmentKey) -> None:
        """Know nothing of it any more; its object stays."""
        for shelf in self.shelves:
            if key in shelf:
                shelf.remove(key)
                self.tier.drop(key)

    def detach(self, key: SegmentKey, evicted: bool = False) -> Stored | None:
        """Out of sight; the caller discards the object without the lock."""
        for shelf in self.shelves:
            if key in shelf:
                shelf.remove(key, evicted)
                return self.tier.detach(key)
        return None

    def forget(self, key: SegmentKey) -> bool:
        """The tier found that its object is gone; whether that was news here."""
        gone = key in self and not self.tier.contains(key)
        for shelf in self.shelves if gone else ():
            if key in shelf:
                shelf.remove(key)
        return gone

    def stats(self) -> TierStats:
        return TierStats(
            self.tier.capacity_bytes,
            self.tier.used_bytes,
            len(self.shelf) + len(self.foreign),
            self.shelf.hits,
            self.shelf.evictions,
            self.read_bytes,
            self.written_bytes,
            self.write_failures,
            self.writes_dropped,
            len(self.unwritten),
            self.tier.codec_misses,
            len(self.tombstones),
            self.shares.largest(),
        )

    def _admits(self, key: SegmentKey) -> bool:
        """Everything, or what is seen for the second time."""
        if self._seen is None:
            return True
        if self._seen.pop(key.digest):
            return True
        self._seen.put(key.digest, True)
        return False
