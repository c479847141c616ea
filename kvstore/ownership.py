"""Which segments are a node's own, as the cluster changes: what it keeps and what it gives away."""

from collections.abc import Collection

from kvstore.books import Books
from kvstore.copies import Owns
from kvstore.disposal import discard_for_good
from kvstore.levels import Level
from kvstore.types import SegmentKey, SegmentSpec


def own(books: Books, owns: Owns) -> None:
    """Copies that are now the node's own go to the slow tiers as if they were new; what it owns no
    more stays until it is let go: another node may still have to get it from here."""
    with books.lock:
        books.owns = owns
        for key in books.copies.sort_out(owns):
            if slot := books.dram.find(key):
                books.offer(slot)


def holdings(books: Books) -> list[SegmentSpec]:
    """What is in DRAM, and in the slow tiers that no other node sees; most of its chains are in the
    order of their segments."""
    with books.lock:
        books.require_open()
        shelves = [books.dram_shelf, *(level.shelf for level in _own_levels(books))]
        return list({spec.key: spec for shelf in shelves for spec in shelf.specs()}.values())


def kept(books: Books, keys: Collection[SegmentKey]) -> set[SegmentKey]:
    """Of these what the node owns and has: on a slow tier, or in DRAM with nothing left to write.
    A mere copy is not kept."""
    with books.lock:
        books.require_open()
        return {key for key in keys if books.owns(key) and _is_kept(books, key)}


def _is_kept(books: Books, key: SegmentKey) -> bool:
    if books.stored_in(key):
        return True
    waits = any(key in level.unwritten or key == level.writing for level in books.levels)
    return books.dram.contains(key) and key not in books.copies and not waits


def let_go(books: Books, keys: Collection[SegmentKey]) -> None:
    """Their owners have them: here they are copies, in DRAM alone. What this node owns stays."""
    with books.lock:
        books.require_open()
        foreign = [key for key in keys if not books.owns(key)]
        for key in foreign:
            if (slot := books.dram.find(key)) and key not in books.copies:
                books.copies.add(slot.entry)
        levels = _own_levels(books)
        for level in levels:
            for key in foreign:
                level.withdraw(key, evicted=False)
        detached = [(lv, gone) for lv in levels for key in foreign if (gone := lv.detach(key))]
        books.bound_copies()
    discard_for_good(books, detached)


def _own_levels(books: Books) -> list[Level]:
    return [level for level in books.levels if level.tier.exclusive]
