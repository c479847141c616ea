"""What one `acquire` is to compute: tickets with room, opened in turns, claimed in one moment."""

from collections.abc import Callable, Container, Generator, Iterator, Sequence
from itertools import dropwhile

from kvstore.books import Books
from kvstore.leases import Lease
from kvstore.singleflight import OpenTicket
from kvstore.types import Path, SegmentKey, SegmentSpec, Ticket, TicketId

_MAX_ROUNDS = 8
"""After so many of them what others have claimed or published meanwhile is computed twice."""


class Claiming:
    """Used in turns. Until `claim_all` nobody waits for these tickets, and what others claim
    meanwhile is theirs."""

    def __init__(
        self, books: Books, lease: Lease, is_arriving: Callable[[SegmentKey], bool]
    ) -> None:
        """`is_arriving`: whether the caller reads the segment as it comes."""
        self._books = books
        self._lease = lease
        self._is_arriving = is_arriving
        self.tickets: dict[SegmentKey, Ticket] = {}
        self.waiters: set[SegmentKey] = set()
        self._opened: dict[SegmentKey, OpenTicket] = {}
        """Those of the tickets that have an extent."""
        self._keys: set[SegmentKey] = set()
        """Of `_opened`."""
        self._num_rounds = 0
        self._num_removals = self._num_publications = 0

    def begin(self) -> None:
        """Before the first plan."""
        self._num_removals = self._books.num_removal_events
        self._num_publications = self._books.dram.num_publications

    def plan(self, found: Path, rest: Path) -> Iterator[None]:
        """All of `rest` are ours, unless another has the first. Where one finds no room, those
        after it would never be matched."""
        first = rest[0].key
        if first not in self.tickets and self._books.claims.is_flying(first):
            self.waiters.add(first)
            return
        cached, new = (sum(spec.layout.num_tokens for spec in part) for part in (found, rest))
        cost = self._books.profile.seconds_per_token(cached, new)
        has_room = True
        for spec in rest:
            ticket = self.tickets.get(spec.key)
            if ticket is None:
                ticket = yield from self._ticket(spec, has_room, cost)
                self.tickets[spec.key] = ticket
            has_room = has_room and (ticket.extent is not None or self._is_elsewhere(spec))
            yield

    def claim_all(self) -> set[SegmentKey]:
        """Nothing, and all are claimed; or those that others have claimed or published meanwhile,
        and none is. One look at sets: no step in between."""
        books, keys, opened = self._books, self._keys, self._opened
        if not keys:
            return set()
        lost = set(filter(books.claims.is_flying, keys - keys.difference(books.claims.all_flying)))
        lost |= books.dram.published(keys, self._num_publications)
        if lost and self._num_rounds < _MAX_ROUNDS:
            self._num_rounds += 1
            return lost
        books.claims.claim({k: opened[k] for k in keys - lost} if lost else opened, self._lease)
        return set()

    def drop(self, keys: set[SegmentKey]) -> Iterator[None]:
        """No ticket for these: they are to be planned again."""
        for key in keys:
            self._drop(key)
            yield

    def drop_unneeded(self, paths: Sequence[Path], hits: Container[SegmentKey]) -> Iterator[None]:
        """No ticket for what is a hit in every path, or lies behind a waiter."""
        needed = set[SegmentKey]()
        for path in paths:
            rest = list(dropwhile(hits.__contains__, [spec.key for spec in path]))
            if rest and rest[0] in self.tickets:
                needed.update(rest)
            yield
        for key in self.tickets.keys() - needed:
            self._drop(key)
            yield

    def _drop(self, key: SegmentKey) -> None:
        del self.tickets[key]
        if (ticket := self._opened.pop(key, None)) is not None:
            self._keys.remove(key)
            self._books.give_back(ticket)

    def _ticket(
        self, spec: SegmentSpec, has_room: bool, cost: float
    ) -> Generator[None, None, Ticket]:
        books, ticket_id = self._books, TicketId(self._books.next_id())
        extent = None
        may_claim = has_room and books.claims.may_reserve(self._lease.holder, spec.layout.nbytes)
        if may_claim and not self._is_elsewhere(spec):
            extent = yield from books.reserving(spec)
        if extent is not None:
            ticket = books.claims.open(ticket_id, spec, extent, self._lease, cost)
            # What it follows was looked at before a removal that may be over by now.
            is_late = books.num_removal_events != self._num_removals
            ticket.doomed = is_late or books.is_being_removed(spec)
            self._opened[spec.key] = ticket
            self._keys.add(spec.key)
        return Ticket(ticket_id, spec, extent)

    def _is_elsewhere(self, spec: SegmentSpec) -> bool:
        """There already, or on its way, behind a hole, or another computes it: compute it, but
        nothing is to be kept."""
        books, key = self._books, spec.key
        return books.dram.contains(key) or self._is_arriving(key) or books.claims.is_flying(key)
