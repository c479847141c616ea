"""`commit`: what was computed into extents is verified, layer by layer, and published."""

from collections.abc import Sequence

from kvstore.arguments import Result, taken_results
from kvstore.books import Books
from kvstore.errors import CorruptSegmentError, StoreUnavailableError
from kvstore.scrub import damage_of
from kvstore.singleflight import OpenTicket
from kvstore.tiers.dram import Slot
from kvstore.turns import in_turns
from kvstore.types import HolderId, Lineage, TicketId


class Commits:
    def __init__(self, books: Books) -> None:
        self._books = books

    def commit(
        self,
        ticket_ids: Sequence[TicketId],
        crcs: Sequence[Sequence[int]],
        holder: HolderId,
        lineages: Sequence[Lineage | None],
    ) -> None:
        """All tickets are taken, or none and nothing has changed: raises ValueError for arguments
        that do not fit together, StoreUnavailableError when a ticket is not open here under
        the holder. Raises CorruptSegmentError when bytes and checksums differ; the sound ones are
        published."""
        results = taken_results(ticket_ids, crcs, lineages)
        taken = self._take_all(results, holder)
        damaged: dict[Slot, CorruptSegmentError] = {}
        verified = set[Slot]()
        books = self._books

        def land(one: tuple[OpenTicket, Slot]) -> None:
            books.require_open()  # with the store all of it is gone
            ticket, slot = one
            self._land(ticket, slot, slot in verified and slot not in damaged)

        try:
            for _, slot in taken:
                if error := damage_of(books, slot):
                    damaged[slot] = error
                verified.add(slot)
        finally:  # whatever interrupts it, no ticket stays half landed
            in_turns(books.lock, taken, land)
            with books.lock:
                books.changed.notify_all()
        for error in damaged.values():
            raise error

    def _take_all(
        self, results: Sequence[Result], holder: HolderId
    ) -> list[tuple[OpenTicket, Slot]]:
        """In turns; where one of the tickets is not open, what was taken is given back."""
        books, taken = self._books, list[tuple[OpenTicket, Slot]]()

        def take(result: Result) -> None:
            books.require_open()
            ticket = self._find(result.ticket_id, holder)
            taken.append((ticket, self._take(ticket, result.crcs)))

        def note(one: tuple[OpenTicket, Lineage | None]) -> None:
            self._note(*one)

        books.require_open()
        try:
            in_turns(books.lock, results, take)
        except BaseException:
            in_turns(books.lock, taken, self._give_back)
            raise
        pairs = zip(taken, results, strict=True)
        in_turns(books.lock, [(t, r.lineage) for (t, _), r in pairs if r.lineage], note)
        return taken

    def _find(self, ticket_id: TicketId, holder: HolderId) -> OpenTicket:
        ticket = self._books.claims.find(ticket_id, holder)
        if ticket is None:
            raise StoreUnavailableError(f"ticket {ticket_id} is not open: released, or a restart")
        return ticket

    def _note(self, ticket: OpenTicket, lineage: Lineage | None) -> None:
        """What left another node before a removal that was made here is for its caller alone."""
        if lineage is not None:
            ticket.doomed = ticket.doomed or self._books.recent.refuses(ticket.spec, lineage)

    def _take(self, ticket: OpenTicket, crcs: Sequence[int]) -> Slot:
        """From now on the extent is the lease's and, while it is verified, ours: a release or the
        holder's end cannot give it to anybody else under our hands."""
        books = self._books
        books.claims.renew(ticket.lease)
        books.claims.detach(ticket)
        slot = books.dram.complete(ticket.spec, ticket.extent, crcs)
        books.dram.borrow(slot)
        books.leases.pin(ticket.lease, slot)
        return slot

    def _give_back(self, one: tuple[OpenTicket, Slot]) -> None:
        """The reverse of `_take`, as far as the lease is still open."""
        books, (ticket, slot) = self._books, one
        if books.closed:
            return
        if ticket.lease.open:
            books.dram.reopen(slot)
            books.leases.unpin(ticket.lease, slot)
            books.claims.reopen(ticket)
        else:
            books.claims.land(ticket)
            books.dram.give_back(slot)
            books.changed.notify_all()

    def _land(self, ticket: OpenTicket, slot: Slot, sound: bool) -> None:
        books = self._books
        books.claims.land(ticket)
        if not sound:
            books.counters.corrupt += 1
        elif not ticket.doomed and books.can_publish(slot.spec):
            books.publish(slot, ticket.cost)
            books.counters.commits += 1
        books.dram.give_back(slot)
