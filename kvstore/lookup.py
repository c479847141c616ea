"""Questions about keys that change nothing and count as no use."""

from collections.abc import Collection

from kvstore.books import Books
from kvstore.turns import in_turns
from kvstore.types import SegmentKey, TierName


def locate(books: Books, keys: Collection[SegmentKey]) -> dict[SegmentKey, TierName]:
    """The fastest tier that is known to have each of the keys."""
    found: dict[SegmentKey, TierName] = {}

    def look(key: SegmentKey) -> None:
        books.require_open()
        if books.dram.contains(key):
            found[key] = "dram"
        elif level := books.stored_in(key):
            found[key] = level.name

    in_turns(books.lock, keys, look)
    return found


def checksums(books: Books, keys: Collection[SegmentKey]) -> dict[SegmentKey, tuple[int, ...]]:
    """Of the layers of what is in DRAM, as it came there."""
    found: dict[SegmentKey, tuple[int, ...]] = {}

    def look(key: SegmentKey) -> None:
        books.require_open()
        if slot := books.dram.find(key):
            found[key] = slot.crcs

    in_turns(books.lock, keys, look)
    return found
