"""Tickets for which a client may still write: a write behind the end of one would land in whatever
its extent holds by then."""

import threading
from collections.abc import Iterable

from kvstore.types import Acquired, Extent, LeaseId, Ticket, TicketId


class OpenTickets:
    """One client's. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._extents: dict[TicketId, Extent] = {}
        self._of_lease: dict[LeaseId, list[TicketId]] = {}

    def add(self, acquired: Acquired) -> None:
        """What an answer claims for the client."""
        claimed = {t.ticket_id: t.extent for t in acquired.tickets.values() if t.extent is not None}
        if claimed:
            with self._lock:
                self._extents |= claimed
                self._of_lease[acquired.lease_id] = list(claimed)

    def holds(self, acquired: Acquired, ticket: Ticket) -> bool:
        """Whether it is one of this lease's, with this extent, and not over."""
        with self._lock:
            known = self._extents.get(ticket.ticket_id)
            own = ticket.ticket_id in self._of_lease.get(acquired.lease_id, ())
        return own and known is not None and known == ticket.extent

    def end(self, ticket_ids: Iterable[TicketId]) -> None:
        """Committed or given back."""
        with self._lock:
            for ticket_id in ticket_ids:
                self._extents.pop(ticket_id, None)

    def end_leases(self, lease_ids: Iterable[LeaseId]) -> None:
        """All of theirs."""
        with self._lock:
            for lease_id in lease_ids:
                for ticket_id in self._of_lease.pop(lease_id, ()):
                    self._extents.pop(ticket_id, None)

    def clear(self) -> None:
        with self._lock:
            self._extents.clear()
            self._of_lease.clear()
