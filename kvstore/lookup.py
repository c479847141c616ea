"""Questions about keys that change nothing and count as no use."""

import time
from collections.abc import Collection, Iterator
from itertools import takewhile

from kvstore.books import Books
from kvstore.errors import DeadlineError
from kvstore.turns import in_turns
from kvstore.types import Lineage, SegmentKey, TierName


def locate(books: Books, keys: Collection[SegmentKey]) -> dict[SegmentKey, TierName]:
    """The fastest tier that is known to have each of the keys."""
    found = list[tuple[SegmentKey, TierName]]()  # a long dict that grows holds the lock for long

    def look(key: SegmentKey) -> None:
        books.require_open()
        if books.dram.contains(key):
            found.append((key, "dram"))
        elif level := books.stored_in(key):
            found.append((key, level.name))

    in_turns(books.lock, keys, look)
    return dict(found)


def checksums(books: Books, keys: Collection[SegmentKey]) -> dict[SegmentKey, tuple[int, ...]]:
    """Of the layers of what is in DRAM, as it came there."""
    found = list[tuple[SegmentKey, tuple[int, ...]]]()

    def look(key: SegmentKey) -> None:
        books.require_open()
        if slot := books.dram.find(key):
            found.append((key, slot.crcs))

    in_turns(books.lock, keys, look)
    return dict(found)


def lineages(books: Books, keys: Collection[SegmentKey]) -> dict[SegmentKey, Lineage]:
    """Of what is in DRAM. Ask before it is looked whether a segment is still there: one that a
    removal takes between the two is not, and one that is there came after these removals."""
    found = list[tuple[SegmentKey, Lineage]]()

    def look(key: SegmentKey) -> None:
        books.require_open()
        if slot := books.dram.find(key):
            found.append((key, Lineage(books.recent.of(slot.spec))))

    in_turns(books.lock, keys, look)
    return dict(found)


def wait(books: Books, keys: Collection[SegmentKey], deadline_s: float) -> None:
    """Until none of the keys is being computed; raises DeadlineError."""
    give_up, rest = time.monotonic() + deadline_s, iter(keys)
    books.require_open()
    while (key := _first_flying(books, rest)) is not None:
        with books.lock:
            while not books.closed and (expiry := books.claims.expiry(key)) is not None:
                left = min(give_up, expiry) - time.monotonic()
                if time.monotonic() >= give_up:
                    raise DeadlineError(f"{len(keys)} segments not computed after {deadline_s} s")
                books.changed.wait(max(0.0, left))
        books.require_open()


def _first_flying(books: Books, keys: Iterator[SegmentKey]) -> SegmentKey | None:
    """The next that is being computed."""
    found: list[SegmentKey] = []

    def is_before(key: SegmentKey) -> bool:
        books.require_open()
        if books.claims.is_flying(key):
            found.append(key)
        return not found

    in_turns(books.lock, takewhile(is_before, keys), bool)
    return found[0] if found else None
