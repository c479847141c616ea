"""The contract of an eviction policy: it knows what is there and says what goes first."""

from collections.abc import Container, Mapping
from typing import Protocol

from kvstore.tiers.base import Entry
from kvstore.types import SegmentKey

NextUse = Mapping[SegmentKey, int]
"""Rank, in the queue, of the first request that will need a key; what nobody needs is not in it."""


class EvictionPolicy(Protocol):
    """One tier's order of eviction. Not thread-safe: the store's metadata lock guards it.

    Only leaves go (ALGORITHMS 2.3): a segment whose child is here is not a victim before its child
    is one, for a segment without its parent can never be matched.
    """

    looks_ahead: bool
    """Whether what queued requests need goes last."""

    def on_insert(self, entry: Entry, cost: float | None = None, recovered: bool = False) -> None:
        """`cost` is what computing it took, in seconds per token, where it was computed now.
        `recovered`: it was last used before all that is here."""
        ...

    def on_access(self, entry: Entry) -> None: ...

    def on_remove(self, entry: Entry, evicted: bool) -> None:
        """`evicted` to make room, in distinction from removed because its passage is gone."""
        ...

    def victims(
        self, nbytes: int, protected: Container[SegmentKey], next_use: NextUse
    ) -> list[SegmentKey]:
        """The first to go that together free `nbytes`, none of them protected; all that there are
        when they do not suffice. What is needed next goes after all else, and of that what is
        needed last goes first. Changes nothing."""
        ...
