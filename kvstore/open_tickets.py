"""Tickets for which a client may still write: a write behind the end of one would land in whatever
its extent holds by then."""

import threading
from collections.abc import Iterable
from weakref import ReferenceType, ref

import numpy as np
from numpy.typing import NDArray

from kvstore.types import Acquired, Extent, LeaseId, Ticket, TicketId


class OpenTickets:
    """One client's. Thread-safe.

    Whoever writes has a view: numpy arrays, tensors and slices made of it count as that view.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._extents: dict[TicketId, Extent] = {}
        self._of_lease: dict[LeaseId, list[TicketId]] = {}
        self._lent: dict[TicketId, list[ReferenceType[NDArray[np.uint8]]]] = {}
        self._left: list[ReferenceType[NDArray[np.uint8]]] = []
        """Lent of tickets that were open at `close`."""

    def add(self, acquired: Acquired) -> None:
        """What an answer claims for the client."""
        claimed = {t.ticket_id: t.extent for t in acquired.tickets.values() if t.extent is not None}
        if claimed:
            with self._lock:
                self._extents |= claimed
                self._of_lease[acquired.lease_id] = list(claimed)

    def lend(self, acquired: Acquired, ticket: Ticket, data: memoryview) -> memoryview | None:
        """A view of the ticket's bytes to write into; None for one that is not this lease's, has
        another extent, or is over."""
        with self._lock:
            known = self._extents.get(ticket.ticket_id)
            is_own = ticket.ticket_id in self._of_lease.get(acquired.lease_id, ())
            if not is_own or known is None or known != ticket.extent:
                return None
            owner = np.frombuffer(data, np.uint8)  # a memoryview does not count its slices
            lent = self._lent.get(ticket.ticket_id, [])
            self._lent[ticket.ticket_id] = [*(r for r in lent if r() is not None), ref(owner)]
        return owner.data

    def end(self, ticket_ids: Iterable[TicketId]) -> None:
        """Committed or given back."""
        with self._lock:
            self._forget(ticket_ids)

    def end_leases(self, lease_ids: Iterable[LeaseId]) -> None:
        """All of theirs."""
        with self._lock:
            for lease_id in lease_ids:
                self._forget(self._of_lease.pop(lease_id, ()))

    def close(self) -> None:
        """All of them are over, but for what somebody may be writing."""
        with self._lock:
            self._left = [one for lent in self._lent.values() for one in lent]
            for known in (self._extents, self._of_lease, self._lent):
                known.clear()

    @property
    def is_written(self) -> bool:
        """Whether somebody has a view still of a ticket that was open at `close`."""
        return any(one() is not None for one in self._left)

    def _forget(self, ticket_ids: Iterable[TicketId]) -> None:
        for ticket_id in ticket_ids:
            self._extents.pop(ticket_id, None)
            self._lent.pop(ticket_id, None)
