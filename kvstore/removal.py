"""Deleting passages: their segments, and all that was computed after them, in every tier."""

from collections import defaultdict
from collections.abc import Collection

from kvstore.books import Books
from kvstore.disposal import discard_for_good
from kvstore.loads import Loads
from kvstore.types import SegmentKey, SegmentSpec


def remove_tags(books: Books, loads: Loads, tags: Collection[bytes]) -> int:
    """Out of sight when this returns, and off the slow tiers for good; bytes in DRAM go when the
    last pin does. While a tier recovers they are removed once more at its end, with what was
    computed anew.

    Computations and reads under way end normally for their callers; their results are not
    published. Returns the number of segments that were stored.
    """
    with books.lock:
        books.require_open()
        family = _family(books, loads, frozenset(tags))
        for ticket in books.claims.unfinished():
            ticket.doomed = ticket.doomed or ticket.spec.key in family
        for load in loads:
            load.doomed = load.doomed or load.spec.key in family
        if any(level.recovering for level in books.levels):
            books.removed.update(tags)
        found = [k for k in family if books.dram.contains(k) or books.stored_in(k)]
        for key in found:
            if slot := books.dram.find(key):
                books.withdraw(slot)
        detached = [(lv, gone) for lv in books.levels for k in found if (gone := lv.detach(k))]
    discard_for_good(books, detached)
    return len(found)


def _family(books: Books, loads: Loads, tags: frozenset[bytes]) -> set[SegmentKey]:
    """Everything stored or under way that is one of these passages or follows one."""
    moving = [t.spec for t in books.claims.unfinished()] + [load.spec for load in loads]
    moving_children: dict[bytes, list[SegmentSpec]] = defaultdict(list)
    for spec in moving:
        moving_children[spec.parent].append(spec)
    shelves = [books.dram_shelf, *(shelf for level in books.levels for shelf in level.shelves)]
    todo = [spec for tag in tags for shelf in shelves for spec in shelf.tagged(tag)]
    todo += [spec for spec in moving if spec.tag in tags]
    family: set[SegmentKey] = set()
    while todo:
        spec = todo.pop()
        if spec.key not in family:
            family.add(spec.key)
            todo += moving_children.get(spec.key.digest, [])
            todo += [child for shelf in shelves for child in shelf.children(spec.key.digest)]
    return family
