"""Who holds what: a lease pins slots for one `acquire`; its holder is a process of the node."""

from collections import defaultdict
from dataclasses import dataclass, field

from kvstore.tiers.dram import DramTier, Slot
from kvstore.types import HolderId, LeaseId, TicketId


@dataclass(eq=False, slots=True)
class Lease:
    lease_id: LeaseId
    holder: HolderId
    slots: set[Slot] = field(default_factory=set)
    tickets: set[TicketId] = field(default_factory=set)
    claims_end_at: float = 0.0
    """Monotonic time at which the claims of its tickets end, unless it gives a sign of life."""
    open: bool = True


class Leases:
    """Every pin of a slot is one lease's. Not thread-safe: the metadata lock guards it."""

    def __init__(self, tier: DramTier) -> None:
        self._tier = tier
        self._open: dict[LeaseId, Lease] = {}
        self._of: defaultdict[HolderId, dict[LeaseId, Lease]] = defaultdict(dict)

    def __len__(self) -> int:
        return len(self._open)

    def open(self, lease_id: LeaseId, holder: HolderId) -> Lease:
        lease = self._open[lease_id] = self._of[holder][lease_id] = Lease(lease_id, holder)
        return lease

    def find(self, lease_id: LeaseId, holder: HolderId) -> Lease | None:
        """If it is open, and the holder's."""
        lease = self._open.get(lease_id)
        return lease if lease is not None and lease.holder == holder else None

    def of(self, holder: HolderId) -> list[Lease]:
        """Its open ones."""
        return list(self._of[holder].values()) if holder in self._of else []

    def pin(self, lease: Lease, slot: Slot) -> None:
        """Once per lease, however often it is asked for."""
        assert lease.open, f"lease {lease.lease_id} was released"
        if slot not in lease.slots:
            lease.slots.add(slot)
            self._tier.pin(slot)

    def close(self, lease: Lease) -> None:
        """Unpin all. Its tickets are the caller's to end."""
        lease.open = False
        if self._open.pop(lease.lease_id, None):
            del self._of[lease.holder][lease.lease_id]
            if not self._of[lease.holder]:
                del self._of[lease.holder]
        for slot in lease.slots:
            self._tier.unpin(slot)
        lease.slots.clear()

    def unpin(self, lease: Lease, slot: Slot) -> None:
        """If the lease holds it still; the lease stays open."""
        if slot in lease.slots:
            lease.slots.remove(slot)
            self._tier.unpin(slot)

    def all(self) -> list[Lease]:
        """The open ones."""
        return list(self._open.values())

    def num_holders(self, slot: Slot) -> int:
        """How many leases hold the slot."""
        return sum(slot in lease.slots for lease in self._open.values())
