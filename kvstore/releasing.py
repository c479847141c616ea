"""The end of leases and tickets, in turns: a lease may hold everything that is here."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from kvstore.books import Books
from kvstore.leases import Lease
from kvstore.loads import Loads
from kvstore.turns import in_turns
from kvstore.types import HolderId, LeaseId, SegmentKey, TicketId


def abort(books: Books, ticket_ids: Collection[TicketId], holder: HolderId) -> None:
    """Nothing comes of these, as far as they are the holder's."""

    def end(ticket_id: TicketId) -> None:
        books.require_open()
        if ticket := books.claims.find(ticket_id, holder):
            books.end_ticket(ticket)

    books.require_open()
    in_turns(books.lock, ticket_ids, end)


def release(books: Books, lease_id: LeaseId, holder: HolderId) -> None:
    """Unpin everything under the holder's lease and abort its open tickets."""

    def steps() -> Iterator[None]:
        books.require_open()
        if lease := books.leases.find(lease_id, holder):
            yield from _ending(books, lease)

    in_turns(books.lock, steps(), bool)


def end_leases(books: Books, leases: Iterable[Lease]) -> None:
    """Nothing once the store is closed."""

    def steps() -> Iterator[None]:
        for lease in leases:
            yield from () if books.closed else _ending(books, lease)

    in_turns(books.lock, steps(), bool)


def trim(
    books: Books,
    loads: Loads,
    kept: Mapping[LeaseId, Collection[SegmentKey]],
    holder: HolderId,
) -> None:
    """Unpin all but these keys under each of the leases; one of which nothing is kept ends."""

    def steps() -> Iterator[None]:
        for lease_id, keys in kept.items():
            books.require_open()
            if lease := books.leases.find(lease_id, holder):
                yield from _trimming(books, loads, lease, frozenset(keys))

    books.require_open()
    in_turns(books.lock, steps(), bool)


def note_uses(books: Books, used: Sequence[SegmentKey]) -> None:
    def use(key: SegmentKey) -> None:
        books.touch((key,))
        books.note_active(books.dram_shelf.tenants((key,)))

    in_turns(books.lock, used, use)


def _ending(books: Books, lease: Lease) -> Iterator[None]:
    """What was pinned or claimed under it meanwhile ends with it."""
    while lease.open and not books.closed and (lease.slots or lease.tickets):
        yield from _unpinning(books, lease, frozenset())
    if lease.open and not books.closed:
        books.end_lease(lease)


def _trimming(
    books: Books, loads: Loads, lease: Lease, keys: frozenset[SegmentKey]
) -> Iterator[None]:
    yield from _unpinning(books, lease, keys)
    if lease.open and not books.closed:
        books.bound_copies()
        if not loads.keep(lease, keys) and not lease.slots:
            books.end_lease(lease)


def _unpinning(books: Books, lease: Lease, keys: frozenset[SegmentKey]) -> Iterator[None]:
    """All but these, one a step, while the lease is open: each pin is a lease's at any time."""
    for ticket_id in list(lease.tickets):
        if not books.closed and (ticket := books.claims.find(ticket_id, lease.holder)) is not None:
            books.end_ticket(ticket)
        yield
    for slot in list(lease.slots):
        if not books.closed and slot.spec.key not in keys:
            books.leases.unpin(lease, slot)
        yield
