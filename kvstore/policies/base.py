"""The contract of an eviction policy: it knows what is there and says what goes first."""

from collections.abc import Collection, Iterator, Mapping
from typing import Protocol

from kvstore.policies.nodes import History, Learned, Rank
from kvstore.shares import Tenants, everyone
from kvstore.tiers.base import Entry
from kvstore.types import SegmentKey

NextUse = Mapping[SegmentKey, int]
"""Rank, in the queue, of the first request that will need a key; what nobody needs is not in it."""

Leaf = tuple[Rank, SegmentKey]


class EvictionPolicy(Protocol):
    """One tier's order of eviction. Not thread-safe: the store's metadata lock guards it.

    Only leaves go (ALGORITHMS 2.3): a segment whose child is here is not a victim before its child
    is one, for a segment without its parent can never be matched.
    """

    looks_ahead: bool
    """Whether what queued requests need goes last."""
    num_shown: int
    """How often a leaf came into the order: while it stands, nothing more may go than before."""

    def on_insert(self, entry: Entry, cost: float | None = None, recovered: bool = False) -> None:
        """`cost` is what computing it took, in seconds per token, where it was computed now.
        `recovered`: it was last used before all that is here."""
        ...

    def on_access(self, entry: Entry) -> None: ...

    def on_remove(self, entry: Entry, evicted: bool) -> None:
        """`evicted` to make room, in distinction from removed because its passage is gone."""
        ...

    def hold(self, digest: bytes) -> None:
        """Out of the order until `unhold`, whether it is here yet or not. Idempotent."""
        ...

    def unhold(self, digest: bytes) -> None: ...

    def is_held(self, digest: bytes) -> bool: ...

    def order(self, next_use: NextUse, tenants: Tenants = everyone) -> Iterator[SegmentKey]:
        """What may go, first to go first, each before its parent: leaves that nobody holds, and
        what becomes one when those before it have gone. With look-ahead, what is needed next comes
        after all else, and of that what is needed last comes first. Nothing may change
        meanwhile."""
        ...

    def loss(self, key: SegmentKey) -> float:
        """What evicting it now costs for each byte, 0 or more: to compare neighbours by."""
        ...

    def key_of(self, digest: bytes) -> SegmentKey | None:
        """Of the segment that is here under this digest."""
        ...

    def problems_of(self, entry: Entry) -> Iterator[str]:
        """What does not fit an entry that is here."""
        ...

    def tenants(self) -> list[bytes]:
        """Those that have an order of their own."""
        ...

    def leaves(self, tenant: bytes) -> Iterator[Leaf]:
        """The order in which this tenant's leaves may go. It may change meanwhile: a few leaves are
        copied at a time."""
        ...

    def is_stale(self, tenant: bytes, leaf: Leaf) -> bool:
        """Whether the leaf stands in the tenant's order, and should not."""
        ...

    def learned(self) -> Learned:
        """What is known of the segments now, here or not."""
        ...

    def remember(self, key: SegmentKey, history: History) -> None:
        """What was learned of a segment that is not here: its own when it comes. The latest of a
        bounded number."""
        ...

    def __len__(self) -> int: ...

    def check(self, keys: Collection[SegmentKey]) -> list[str]:
        """What does not fit these entries; empty is right."""
        ...
