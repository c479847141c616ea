"""Do the books of a store balance? In turns: while one looks, others come and go.

What has to hold between the records of one segment is looked at segment by segment, all of them at
the same moment. What has to hold of all together (runs tile the arena, bytes add up) is worked out
without the lock, from copies that were made at one moment.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import TypeVar

from kvstore.books import Books
from kvstore.garbage import uninterrupted
from kvstore.leases import Lease
from kvstore.levels import Level
from kvstore.loads import Loads
from kvstore.policies.base import Leaf
from kvstore.shelf import Shelf
from kvstore.tiers.base import Entry
from kvstore.tiers.dram import Slot
from kvstore.turns import in_turns
from kvstore.types import SegmentKey

T = TypeVar("T")

_SETTLE_S = 0.05
"""How long a record may lag behind another that it follows."""


def imbalance(books: Books, loads: Loads) -> list[str]:
    """Whatever does not balance. Raises StoreUnavailableError when the store is closed."""
    return _Balance(books, loads).problems()


class _Balance:
    """One look at everything."""

    def __init__(self, books: Books, loads: Loads) -> None:
        self._books = books
        self._loads = loads

    def problems(self) -> list[str]:
        books = self._books
        problems = [*self._runs(), *self._extents(), *self._slots()]
        problems += [*self._pins(), *self._in_flight()]
        problems += self._holds()
        problems += self._shelf("dram", books.dram_shelf, self._is_in_dram)
        problems += self._shelf("dram, copies", books.copies.shelf, self._is_in_dram)
        for level in books.levels:
            problems += self._level(level)
        return problems

    def _each(self, items: Iterable[T], look: Callable[[T], Iterable[str]]) -> list[str]:
        """What is found with each of the items, in turns."""
        problems: list[str] = []

        def add(item: T) -> None:
            self._books.require_open()
            problems.extend(look(item))

        in_turns(self._books.lock, items, add)
        return problems

    def _runs(self) -> list[str]:
        books = self._books
        with uninterrupted(books.lock):
            books.require_open()
            problems = books.dram.runs.miscounts()
        return problems + self._each(books.dram.runs.starts(), books.dram.runs.problems_of)

    def _extents(self) -> list[str]:
        books = self._books
        with uninterrupted(books.lock):
            extents = books.dram.copy_of_extents()
        return extents.check()

    def _slots(self) -> list[str]:
        books = self._books
        with uninterrupted(books.lock):
            slots = books.dram.all_slots()
            counts = len(books.dram_shelf), books.dram.num_published
        problems = self._each(slots, self._slot)
        if counts[0] != counts[1]:
            problems.append(f"dram: {counts[0]} segments on the shelf, {counts[1]} in the arena")
        return problems

    def _slot(self, slot: Slot) -> Iterator[str]:
        books, key = self._books, slot.spec.key
        if not books.dram.is_live(slot):  # it went since
            return
        yield from books.dram.problems_of(slot)
        holders = books.leases.num_holders(slot) if slot.pins else 0
        if holders != slot.pins:
            yield f"{key}: {slot.pins} pins, {holders} leases hold it"
        if slot.published:
            entry, own = books.dram_shelf.entry(key), slot.entry
            if entry is None or (entry.spec, entry.nbytes) != (own.spec, own.nbytes):
                yield f"dram: {key} has {own.nbytes} bytes in the arena, on the shelf {entry}"
            yield from self._hold(key.digest)

    def _pins(self) -> list[str]:
        """What leases hold is there, and knows that it is held."""
        books = self._books
        with uninterrupted(books.lock):
            leases = books.leases.all()

        def held() -> Iterator[tuple[Lease, Slot]]:
            return ((lease, slot) for lease in leases for slot in list(lease.slots))

        def look(pair: tuple[Lease, Slot]) -> Iterator[str]:
            lease, slot = pair
            if slot in lease.slots and not (slot.pins and books.dram.is_live(slot)):
                yield f"{slot.spec.key}: lease {lease.lease_id} holds what is not pinned"

        return self._each(held(), look)

    def _in_flight(self) -> list[str]:
        """Reservations are those of open tickets and reads."""
        books = self._books
        with uninterrupted(books.lock):
            reserved, tickets = books.dram.reserved(), books.claims.tickets()
            filled = [load.extent for load in self._loads]
        filled += [ticket.extent for ticket in tickets]
        if set(reserved) == set(filled):
            return []
        return [
            f"dram: {len(reserved)} extents are reserved, {len(filled)} by open tickets and reads"
        ]

    def _holds(self) -> list[str]:
        with uninterrupted(self._books.lock):
            digests = self._books.dram.holds.digests()
        return self._each(digests, self._hold)

    def _hold(self, digest: bytes) -> Iterator[str]:
        """A segment has a reason to be held for its holders together, and one for each read of a
        segment that follows it."""
        books = self._books
        key = books.dram_shelf.policy.key_of(digest)
        slot = None if key is None else books.dram.find(key)
        reasons = sum(load.spec.parent == digest for load in self._loads)
        reasons += slot is not None and slot.held
        counted = books.dram.holds.num_reasons(digest)
        if counted != reasons:
            yield f"dram: {counted} holds of {digest.hex()} are counted, there are {reasons}"
        orders = [books.dram_shelf.policy]
        if key is not None and key in books.copies:
            orders.append(books.copies.shelf.policy)
        for policy in orders:
            if policy.is_held(digest) != bool(reasons):
                yield f"dram: {digest.hex()} has {reasons} holds, the order of eviction another"

    def _is_in_dram(self, entry: Entry) -> bool:
        return self._books.dram.contains(entry.key)

    def _shelf(self, name: str, shelf: Shelf, is_there: Callable[[Entry], bool]) -> list[str]:
        """The shelf against itself, its order of eviction, and what is there."""
        with uninterrupted(self._books.lock):
            copy, tenants = shelf.copy_of_entries(), shelf.policy.tenants()

        def look(entry: Entry) -> Iterator[str]:
            if shelf.entry(entry.key) is entry:
                yield from (f"{name}: {problem}" for problem in shelf.problems_of(entry))
                if not is_there(entry):
                    yield f"{name}: {entry.key} is on the shelf, and not there"

        def look_at_member(key: SegmentKey | None) -> Iterator[str]:
            if key is not None and key not in shelf:
                yield f"{name}: {key} is among children or tags, and not on the shelf"

        def look_at_leaf(one: tuple[bytes, Leaf]) -> Iterator[str]:
            if shelf.policy.is_stale(*one):
                yield f"{name}: {one[1][1]} is in the order of eviction, and should not be"

        problems = copy.check(name) + self._each(copy.entries, look)
        problems += self._each(shelf.grouped(), look_at_member)
        leaves = ((tenant, leaf) for tenant in tenants for leaf in shelf.policy.leaves(tenant))
        return problems + self._each(leaves, look_at_leaf)

    def _level(self, level: Level) -> list[str]:
        """A tier's shelves against its ledger, which each follows the other by a moment."""
        problems = self._shelf(level.name, level.shelf, lambda entry: True)
        problems += self._shelf(f"{level.name}, others' objects", level.foreign, lambda e: True)
        problems += self._bound(level)
        with uninterrupted(self._books.lock):
            copies = [shelf.entries() for shelf in level.shelves]
        entries = list(chain.from_iterable(copies))
        suspects = self._each([*entries, *level.tier.keys()], lambda e: self._apart(level, e))
        if not suspects:
            return problems
        time.sleep(_SETTLE_S)
        again = self._each([*entries, *level.tier.keys()], lambda e: self._apart(level, e))
        return problems + list(dict.fromkeys(line for line in again if line in suspects))

    def _bound(self, level: Level) -> list[str]:
        """What a predecessor left may be more than fits, until recovery has trimmed it."""
        tier = level.tier
        with uninterrupted(self._books.lock):
            is_over = not level.recovering and tier.used_bytes > tier.capacity_bytes
        return [f"{level.name}: more than its {tier.capacity_bytes} bytes used"] if is_over else []

    def _apart(self, level: Level, entry: Entry) -> Iterator[str]:
        stored = level.tier.stored(entry.key)
        here, there = level.entry(entry.key), None if stored is None else stored.entry
        if entry.key == level.writing or (here is None and there is None):
            return
        if here is None or there is None or here.nbytes != there.nbytes:
            yield f"{level.name}: {entry.key} is {here} on the shelf, {there} in the tier"
