"""The contract of an eviction policy: it knows what is there and says what goes first."""

from collections.abc import Container
from typing import Protocol

from kvstore.tiers.base import Entry
from kvstore.types import SegmentKey


class EvictionPolicy(Protocol):
    """One tier's order of eviction. Not thread-safe: the store's metadata lock guards it.

    A path is told leaf first, so that a parent is always more recent than its children and goes
    after them: a segment whose parent is gone can never be matched.
    """

    def on_insert(self, entry: Entry) -> None: ...

    def on_access(self, entry: Entry) -> None: ...

    def on_remove(self, entry: Entry) -> None: ...

    def victims(self, nbytes: int, protected: Container[SegmentKey]) -> list[SegmentKey]:
        """The first to go that together free `nbytes`, none of them protected; all that there are
        when they do not suffice. Changes nothing."""
        ...
