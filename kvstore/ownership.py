"""Which segments are a node's own, as the cluster changes: what it keeps and what it gives away."""

from collections import OrderedDict
from collections.abc import Collection, Sequence

from kvstore.books import Books
from kvstore.copies import Owns
from kvstore.disposal import discard, settle
from kvstore.levels import Level
from kvstore.membership import Membership
from kvstore.tiers.segment_object import Stored
from kvstore.turns import in_turns, turns
from kvstore.types import SegmentKey, SegmentSpec

_PLACEMENTS = 65_536
"""Of which it is remembered whether they are this node's."""


class Ownership:
    """What one membership says of the segments of one node, as `Owns`. Thread-safe: at worst two
    threads work out the same."""

    def __init__(self, membership: Membership, node_id: str) -> None:
        self._membership = membership
        self._node_id = node_id
        self._known: OrderedDict[bytes, bool] = OrderedDict()

    def __call__(self, keys: Sequence[SegmentKey]) -> list[bool]:
        placements = [key.placement for key in keys]
        found = {p: known for p in set(placements) if (known := self._known.get(p)) is not None}
        news = [placement for placement in dict.fromkeys(placements) if placement not in found]
        if news:
            owners = self._membership.all_owners(news)
            learned = {p: self._node_id in own for p, own in zip(news, owners, strict=True)}
            found |= learned
            self._remember(learned)
        return [found[placement] for placement in placements]

    def _remember(self, learned: dict[bytes, bool]) -> None:
        self._known.update(learned)
        while len(self._known) > _PLACEMENTS:
            self._known.popitem(last=False)


def own(books: Books, owns: Owns) -> None:
    """Copies that are now the node's own go to the slow tiers as if they were new; what it owns no
    more stays until it is let go: another node may still have to get it from here. One that
    raises is not followed."""
    owns(())
    with books.lock:
        books.require_open()
        before, books.owns = books.owns, owns
        copies = books.copies.shelf.entries()

    def keep(key: SegmentKey) -> None:
        if books.owns is owns and key in books.copies:
            books.copies.discard(key)
            if slot := books.dram.find(key):
                books.offer(slot)

    try:
        keys = [entry.key for entry in copies]
        in_turns(books.lock, _chosen(owns, keys, True), keep)
    except BaseException:
        with books.lock:
            if books.owns is owns:
                books.owns = before
        raise


def holdings(books: Books) -> list[SegmentSpec]:
    """What is in DRAM, and in the slow tiers that no other node sees; each segment behind those
    that precede it in its chain."""
    found: dict[SegmentKey, SegmentSpec] = {}
    for shelf in (books.dram_shelf, *(level.shelf for level in _own_levels(books))):
        with books.lock:
            books.require_open()
            entries = shelf.entries()
        found |= {entry.spec.key: entry.spec for entry in entries}
    return sorted(found.values(), key=lambda spec: len(spec.follows))


def kept(books: Books, keys: Collection[SegmentKey]) -> set[SegmentKey]:
    """Of these what the node owns and has: on a slow tier, or in DRAM with nothing left to write.
    A mere copy is not kept."""
    found = list[SegmentKey]()

    def look(key: SegmentKey) -> None:
        books.require_open()
        if _is_kept(books, key):
            found.append(key)

    in_turns(books.lock, _chosen(books.owns, keys, True), look)
    return set(found)


def _is_kept(books: Books, key: SegmentKey) -> bool:
    if books.stored_in(key):
        return True
    waits = any(key in level.unwritten or key == level.writing for level in books.levels)
    return books.dram.contains(key) and key not in books.copies and not waits


def let_go(books: Books, keys: Collection[SegmentKey]) -> None:
    """Their owners have them: here they are copies, in DRAM alone. What this node owns stays."""
    owns, levels, detached = books.owns, _own_levels(books), list[tuple[Level, Stored]]()

    def give_up(key: SegmentKey) -> None:
        books.require_open()
        if books.owns is not owns and books.owns((key,))[0]:
            return  # the membership has changed since
        if (slot := books.dram.find(key)) and key not in books.copies:
            books.copies.add(slot.entry)
        for level in levels:
            level.withdraw(key, evicted=False)
            if gone := level.detach(key):
                detached.append((level, gone))

    changed = set[Level]()
    try:
        for _ in turns(books.lock, _chosen(owns, keys, False), give_up):
            changed.update(level for level, _ in detached)
            while detached:
                discard(books, *detached.pop())
            books.bound_copies_in_turns()
    finally:
        for level in changed:
            settle(books, level)


def _chosen(owns: Owns, keys: Collection[SegmentKey], is_own: bool) -> list[SegmentKey]:
    """Those of the keys that are the node's own, or are not. All at once, without the lock."""
    keys = list(keys)
    return [key for key, own in zip(keys, owns(keys), strict=True) if own == is_own]


def _own_levels(books: Books) -> list[Level]:
    return [level for level in books.levels if level.tier.exclusive]
