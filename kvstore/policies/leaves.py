"""The leaves that may go, in the order of their ranks, for each tenant and merged."""

from collections.abc import Iterator
from heapq import heappop, heappush, heapreplace
from itertools import islice

from sortedcontainers import SortedList  # type: ignore[import-untyped]  # it has no types

from kvstore.policies.base import Leaf
from kvstore.shares import Tenants


class Leaves:
    """One sorted list per tenant, and one of their first leaves, so that the order of any set of
    tenants is merged as far as somebody looks, however many tenants there are."""

    def __init__(self) -> None:
        self._of: dict[bytes, SortedList[Leaf]] = {}
        self._first: dict[bytes, Leaf] = {}
        self._heads: SortedList[tuple[Leaf, bytes]] = SortedList()  # of `_first`
        self._changed: set[bytes] = set()
        """Tenants whose first leaf may be another by now."""

    def add(self, tenant: bytes, leaf: Leaf) -> None:
        order = self._of.get(tenant)
        if order is None:
            order = self._of[tenant] = SortedList()
        order.add(leaf)
        self._changed.add(tenant)

    def remove(self, tenant: bytes, leaf: Leaf) -> None:
        order = self._of[tenant]
        order.remove(leaf)
        if not order:
            del self._of[tenant]
        self._changed.add(tenant)

    def tenants(self) -> list[bytes]:
        """Those that have any."""
        return list(self._of)

    def after(self, tenant: bytes, leaf: Leaf | None, limit: int) -> list[Leaf]:
        """The next in a tenant's order, as it is now; None: from the first."""
        order = self._of.get(tenant, SortedList())
        return list(islice(order.irange(leaf, inclusive=(False, False)), limit))

    def has(self, tenant: bytes, leaf: Leaf) -> bool:
        return leaf in self._of.get(tenant, ())

    def __iter__(self) -> Iterator[Leaf]:
        return (leaf for order in self._of.values() for leaf in order)

    def merged(self, allowed: Tenants) -> Iterator[Leaf]:
        """The leaves of these tenants by rank. Nothing may change meanwhile."""
        self._find_heads()
        heads = ((leaf, tenant) for leaf, tenant in self._heads if allowed(tenant))
        running: list[tuple[Leaf, Iterator[Leaf]]] = []
        head = next(heads, None)
        while head or running:
            if head and (not running or head[0] < running[0][0]):
                leaf, tenant = head
                rest, head = iter(self._of[tenant]), next(heads, None)
                next(rest)
                yield leaf
                if (following := next(rest, None)) is not None:
                    heappush(running, (following, rest))
                continue
            leaf, rest = running[0]
            yield leaf
            if (following := next(rest, None)) is not None:
                heapreplace(running, (following, rest))
            else:
                heappop(running)

    def _find_heads(self) -> None:
        for tenant in self._changed:
            if (former := self._first.pop(tenant, None)) is not None:
                self._heads.remove((former, tenant))
            if (order := self._of.get(tenant)) is not None:
                self._first[tenant] = order[0]
                self._heads.add((order[0], tenant))
        self._changed.clear()
