"""Least recently used first."""

from collections import OrderedDict
from collections.abc import Container

from kvstore.tiers.base import Entry
from kvstore.types import SegmentKey


class Lru:
    def __init__(self) -> None:
        self._sizes: OrderedDict[SegmentKey, int] = OrderedDict()  # least recent first

    def on_insert(self, entry: Entry) -> None:
        self._sizes[entry.key] = entry.nbytes

    def on_access(self, entry: Entry) -> None:
        self._sizes.move_to_end(entry.key)

    def on_remove(self, entry: Entry) -> None:
        del self._sizes[entry.key]

    def victims(self, nbytes: int, protected: Container[SegmentKey]) -> list[SegmentKey]:
        found: list[SegmentKey] = []
        for key, size in self._sizes.items():
            if nbytes <= 0:
                break
            if key not in protected:
                found.append(key)
                nbytes -= size
        return found
