"""What tenants hold of the arena, so that no eviction can take it, and how much of it they may."""

from collections import Counter

from kvstore.shares import Shares
from kvstore.types import EVERYWHERE, SegmentSpec

NOBODY = b""
"""Holds what everybody's requests need."""


def holder_of(spec: SegmentSpec) -> bytes:
    """What is placed everywhere, the configured prompt prefix, counts against no tenant."""
    return NOBODY if spec.key.placement == EVERYWHERE else spec.tenant


class Promises:
    """A tenant holds what its leases pin and what is reserved for it.

    Within its share it may always hold more. What is beyond is borrowed: only while that leaves,
    free or to be evicted, what the other active tenants do not hold yet of their shares. So each of
    them can have its share at any moment, whoever pins how much, and one alone may hold everything.
    Who comes when too much is held already gets its share as that is let go: until then nobody else
    may borrow. All of it is counted in bytes; where what is held lies scattered, a large segment
    may still find no run that is long enough.

    Not thread-safe: the store's metadata lock guards it.
    """

    def __init__(self, shares: Shares, capacity_bytes: int) -> None:
        self._shares = shares
        self._capacity_bytes = capacity_bytes
        self._held: Counter[bytes] = Counter()
        self._total = 0
        self._within = 0
        """What active tenants hold within their shares, as of `_as_of`."""
        self._as_of = (-1, -1)
        """A share in bytes, and how often the active ones had changed."""

    def may_hold(self, tenant: bytes, nbytes: int) -> bool:
        """Whether so much more. Who asks is active."""
        if tenant == NOBODY:
            return True
        shares = self._shares
        shares.use(tenant)
        share, held = shares.guaranteed_bytes, self._held[tenant]
        if held + nbytes <= share:
            return True
        others_within = self._held_within(share) - min(held, share)
        promised = share * (len(shares.active) - 1) - others_within
        return self._total + nbytes + promised <= self._capacity_bytes

    def bytes_of(self, tenant: bytes) -> int:
        return self._held[tenant]

    def hold(self, tenant: bytes, nbytes: int) -> None:
        self._change(tenant, nbytes)

    def let_go(self, tenant: bytes, nbytes: int) -> None:
        self._change(tenant, -nbytes)

    def counted(self) -> Counter[bytes]:
        """A copy: bytes by tenant."""
        return Counter(self._held)

    def _change(self, tenant: bytes, nbytes: int) -> None:
        before = self._held[tenant]
        after = before + nbytes
        self._total += nbytes
        if after:
            self._held[tenant] = after
        else:
            del self._held[tenant]
        if tenant in self._shares.active:
            share = self._as_of[0]
            self._within += min(after, share) - min(before, share)

    def _held_within(self, share: int) -> int:
        as_of = (share, self._shares.num_changes)
        if as_of != self._as_of:
            self._within = sum(min(self._held[tenant], share) for tenant in self._shares.active)
            self._as_of = as_of
        return self._within
