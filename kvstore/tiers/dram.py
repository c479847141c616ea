"""The DRAM tier: extents of the node's arena, reserved, filled in place, then published.

A slot is a complete, verified segment in an extent. A published slot is found by its key; one that
was withdrawn (evicted from sight while somebody reads it) lives on, nameless, until the last pin
goes.
"""

import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, count, islice

from kvstore.allocator import Allocator
from kvstore.arena import GRANULE, Arena, granules, taken_bytes
from kvstore.arrival import Arrival
from kvstore.checksum import verify_segment
from kvstore.errors import CapacityError
from kvstore.holds import Holds
from kvstore.occupants import Occupants
from kvstore.parts import DigestParts
from kvstore.promises import Promises, holder_of
from kvstore.shares import Shares
from kvstore.tiers.base import Entry, MemoryReader, Reader, Tier
from kvstore.tiers.extents import ExtentsCopy
from kvstore.types import ArenaRef, Extent, SegmentKey, SegmentSpec, TierName

_MAX_LATEST = 1024
_serials = (number.to_bytes(8, "big") for number in count())


@dataclass(eq=False, slots=True)
class Slot:
    """One segment in the arena. It is freed when it is neither published nor held."""

    spec: SegmentSpec
    extent: Extent
    crcs: tuple[int, ...]
    published: bool = False
    pins: int = 0
    """Leases that hold it."""
    borrows: int = 0
    """Short internal uses: verifying, writing to the SSD."""
    last_use: float = field(default_factory=time.time)
    serial: bytes = field(default_factory=_serials.__next__)
    """Its own, of all slots of the process."""

    @property
    def held(self) -> bool:
        return self.pins > 0 or self.borrows > 0

    @property
    def taken(self) -> int:
        """Bytes of the arena."""
        return taken_bytes(self.extent.nbytes)

    @property
    def entry(self) -> Entry:
        return Entry(self.spec, self.taken, self.last_use)


class DramTier(Tier):
    """Not thread-safe: the store's metadata lock guards it. Bytes may be read outside of the lock
    by whoever holds the slot, and written by whoever reserved the extent."""

    name: TierName = "dram"

    def __init__(self, arena: Arena, tenant_share: float = 1.0) -> None:
        self._arena = arena
        self.runs = Allocator(arena.num_granules)
        self._published: DigestParts[Slot] = DigestParts()  # by the digests of their keys
        self._num_published = 0
        self.num_publications = 0
        """How often anything was published, since the start."""
        self._latest: deque[SegmentKey] = deque(maxlen=_MAX_LATEST)  # published
        self._withdrawn: DigestParts[Slot] = DigestParts()  # by their serials; or not yet published
        self._pinned: DigestParts[Slot] = DigestParts()  # by their serials
        self._reserved: dict[Extent, tuple[bytes, bytes]] = {}  # with the tenant, and who holds it
        self.occupants = Occupants(self.runs)
        self.holds = Holds()
        """Published slots that somebody holds, by their digests."""
        capacity_bytes = self.capacity_bytes  # no cycle of objects: the last one to go unmaps
        self.shares = Shares(tenant_share, lambda: capacity_bytes)
        """Of all extents, reserved ones too."""
        self.promises = Promises(self.shares, capacity_bytes)
        """Of what is pinned or reserved."""

    @property
    def arena(self) -> ArenaRef:
        return self._arena.ref

    @property
    def capacity_bytes(self) -> int:
        return self.runs.num_granules * GRANULE

    @property
    def used_bytes(self) -> int:
        return self.capacity_bytes - self.free_bytes

    @property
    def free_bytes(self) -> int:
        return self.runs.num_free * GRANULE

    def can_reserve(self, nbytes: int) -> bool:
        return self.runs.can_allocate(granules(nbytes))

    def may_reserve(self, spec: SegmentSpec) -> bool:
        """Whether its tenant may hold that, too; others have been promised the rest."""
        return self.promises.may_hold(holder_of(spec), taken_bytes(spec.layout.nbytes))

    def may_pin(self, slot: Slot) -> bool:
        """As `may_reserve`. What is pinned already costs nothing."""
        return slot.pins > 0 or self.may_reserve(slot.spec)

    def reserve(self, nbytes: int, tenant: bytes, holder: bytes | None = None) -> Extent:
        """Room to write into, until `complete` or `abort`. `holder`: where the tenant does not hold
        it. Raises CapacityError."""
        if not self.can_reserve(nbytes):
            raise CapacityError(nbytes, self.free_bytes)
        extent = self._arena.extent(self.runs.allocate(granules(nbytes)), nbytes)
        holder = tenant if holder is None else holder
        self._reserved[extent] = tenant, holder
        self.shares.take(tenant, taken_bytes(nbytes))
        self.promises.hold(holder, taken_bytes(nbytes))
        return extent

    def arrival(self, extent: Extent) -> Arrival:
        """Reserved room is filled layer by layer from now on; readers may look on."""
        return self._arena.arrival(extent)

    def abort(self, extent: Extent) -> None:
        """Give reserved room back. The caller knows that nobody writes into it any more."""
        self._free(extent, self._unreserve(extent))

    def complete(self, spec: SegmentSpec, extent: Extent, crcs: Sequence[int]) -> Slot:
        """The reserved extent holds the segment. The slot is not visible and must be held at
        once."""
        slot = Slot(spec, extent, tuple(crcs))
        self._withdrawn.put(slot.serial, slot)
        self._unreserve(extent)
        return slot

    def reopen(self, slot: Slot) -> None:
        """The reverse of `complete`: the caller alone holds the slot."""
        assert slot.held and not slot.published, f"{slot.spec.key} is in use"
        self._withdrawn.pop(slot.serial)
        holder = holder_of(slot.spec)
        self._reserved[slot.extent] = slot.spec.tenant, holder
        self.promises.hold(holder, slot.taken)

    def publish(self, slot: Slot) -> None:
        digest = slot.spec.key.digest
        assert not self._published.has(digest), f"{slot.spec.key} is published twice"
        self._withdrawn.pop(slot.serial)
        slot.published = True
        self._published.put(digest, slot)
        self._num_published += 1
        self.num_publications += 1
        self._latest.append(slot.spec.key)
        self.occupants.enter(slot.spec.key, self._arena.start_of(slot.extent))
        if slot.held:
            self.holds.begin(digest)

    def withdraw(self, slot: Slot) -> None:
        """Take it out of sight; its room comes back when nobody holds it."""
        self._published.pop(slot.spec.key.digest)
        self._num_published -= 1
        slot.published = False
        self.occupants.leave(slot.spec.key)
        if slot.held:
            self._withdrawn.put(slot.serial, slot)
            self.holds.end(slot.spec.key.digest)
        else:
            self._free(slot.extent, slot.spec.tenant)

    def pin(self, slot: Slot) -> None:
        self._begin_hold(slot)
        if not slot.pins:
            self._pinned.put(slot.serial, slot)
            self.promises.hold(holder_of(slot.spec), slot.taken)
        slot.pins += 1

    def unpin(self, slot: Slot) -> None:
        slot.pins -= 1
        if not slot.pins:
            self._pinned.pop(slot.serial)
            self.promises.let_go(holder_of(slot.spec), slot.taken)
        self._end_hold(slot)

    def borrow(self, slot: Slot) -> None:
        self._begin_hold(slot)
        slot.borrows += 1

    def give_back(self, slot: Slot) -> None:
        slot.borrows -= 1
        self._end_hold(slot)

    def find(self, key: SegmentKey) -> Slot | None:
        slot = self._published.get(key.digest)
        return slot if slot is not None and slot.spec.key == key else None

    def slots(self) -> Collection[Slot]:
        """All that is published now: to be looked through at leisure, without the lock."""
        return self._published.copy().values()

    def all_slots(self) -> Iterable[Slot]:
        """The withdrawn ones too; once."""
        return chain(self.slots(), self._withdrawn.copy().values())

    def is_reserved(self, extent: Extent) -> bool:
        return extent in self._reserved

    def reserved(self) -> list[Extent]:
        return list(self._reserved)

    def view(self, extent: Extent) -> memoryview:
        return self._arena.view(extent)

    def contains(self, key: SegmentKey) -> bool:
        slot = self._published.get(key.digest)
        return slot is not None and slot.spec.key == key

    def published(self, keys: set[SegmentKey], since: int) -> set[SegmentKey]:
        """Those of the keys that are here and came since `num_publications` was `since`. Where few
        came, only these are looked at."""
        num = self.num_publications - since
        news = keys if num > len(self._latest) else islice(reversed(self._latest), num)
        return {key for key in news if key in keys and self.contains(key)}

    def put(self, spec: SegmentSpec, data: memoryview, crcs: Sequence[int]) -> None:
        verify_segment(spec, data, crcs)
        if not self.contains(spec.key):
            extent = self.reserve(spec.layout.nbytes, spec.tenant, holder_of(spec))
            self.view(extent)[:] = data
            self.publish(self.complete(spec, extent, crcs))

    def open(self, key: SegmentKey) -> Reader | None:
        slot = self.find(key)
        return None if slot is None else _DramReader(self, slot)

    def remove(self, key: SegmentKey) -> None:
        if slot := self.find(key):
            self.withdraw(slot)

    def keys(self) -> Iterator[Entry]:
        return iter(sorted((s.entry for s in self.slots()), key=lambda entry: entry.last_use))

    @property
    def num_published(self) -> int:
        return self._num_published

    def is_live(self, slot: Slot) -> bool:
        """Whether its extent is its own."""
        return self.find(slot.spec.key) is slot or self._withdrawn.has(slot.serial)

    def copy_of_extents(self) -> ExtentsCopy:
        """As they are now, with what is counted of them."""
        return ExtentsCopy(
            self.all_slots(),
            self._pinned.copy().values(),
            self._reserved.copy(),
            self.runs.num_taken,
            self.used_bytes,
            self.shares.counted(),
            self.promises.counted(),
        )

    def problems_of(self, slot: Slot) -> Iterator[str]:
        """What does not fit a slot that is here."""
        key, extent = slot.spec.key, slot.extent
        if (now := self._arena.generation(extent)) != extent.generation:
            yield f"dram: live extent {extent} has generation {now} in the table"
        if not self._arena.is_complete(extent):
            yield f"dram: {key} is not complete in the arrival table"
        if not slot.published and not slot.held:
            yield f"dram: {key} is withdrawn and unused, but takes {extent.nbytes} bytes"
        start = self._arena.start_of(extent)
        if self.runs.length_of(start) != granules(extent.nbytes):
            yield f"dram: {extent} is in a run of {self.runs.length_of(start)} granules"
        if slot.published and self.occupants.at(start) != key:
            yield f"dram: {key} does not occupy the run at {start}"

    def check(self) -> list[str]:
        """Every taken run is a slot or a reservation of that size, the generations stand, and what
        is in a slot is complete."""
        problems = self.runs.check() + self.copy_of_extents().check()
        return problems + [line for slot in self.all_slots() for line in self.problems_of(slot)]

    def close(self) -> None:
        self._arena.close()

    def _begin_hold(self, slot: Slot) -> None:
        """It is about to have one holder more."""
        if slot.published and not slot.held:
            self.holds.begin(slot.spec.key.digest)

    def _end_hold(self, slot: Slot) -> None:
        if slot.held:
            return
        if slot.published:
            self.holds.end(slot.spec.key.digest)
        else:
            self._withdrawn.pop(slot.serial)
            self._free(slot.extent, slot.spec.tenant)

    def _unreserve(self, extent: Extent) -> bytes:
        """Its tenant."""
        tenant, holder = self._reserved.pop(extent)
        self.promises.let_go(holder, taken_bytes(extent.nbytes))
        return tenant

    def _free(self, extent: Extent, tenant: bytes) -> None:
        self.shares.give_back(tenant, taken_bytes(extent.nbytes))
        self._arena.retire(extent)  # first: whoever still reads must see it before the bytes change
        self.runs.free(self._arena.start_of(extent))


class _DramReader(MemoryReader):
    def __init__(self, tier: DramTier, slot: Slot) -> None:
        super().__init__(slot.spec, slot.crcs, tier.view(slot.extent))
        self._tier, self._slot = tier, slot
        tier.borrow(slot)

    def close(self) -> None:
        self._tier.give_back(self._slot)
