"""Deleting passages: their segments, and all that was computed after them, in every tier."""

from collections import defaultdict
from collections.abc import Collection

from kvstore.books import Books
from kvstore.disposal import discard
from kvstore.loads import Loads
from kvstore.types import SegmentKey, SegmentSpec


def remove_tags(books: Books, loads: Loads, tags: Collection[bytes]) -> int:
    """Out of sight when this returns, and off the SSD; bytes in DRAM go when the last pin does.

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
        stored = [k for k in family if books.dram.contains(k) or k in books.ssd_shelf]
        slots = [books.dram.find(key) for key in stored]
        for slot in slots:
            if slot is not None:
                books.withdraw(slot)
        files = [books.detach_file(key) for key in stored]
    for file in files:
        if file is not None:
            discard(books, file)
    return len(stored)


def _family(books: Books, loads: Loads, tags: frozenset[bytes]) -> set[SegmentKey]:
    """Everything stored or under way that is one of these passages or follows one."""
    moving = [t.spec for t in books.claims.unfinished()] + [load.spec for load in loads]
    moving_children: dict[bytes, list[SegmentSpec]] = defaultdict(list)
    for spec in moving:
        moving_children[spec.parent].append(spec)
    shelves = (books.dram_shelf, books.ssd_shelf)
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
