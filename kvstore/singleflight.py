"""N concurrent misses of one segment cost one computation: who computes what, until when."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from kvstore.arena import taken_bytes
from kvstore.leases import Lease
from kvstore.types import Extent, HolderId, SegmentKey, SegmentSpec, TicketId


@dataclass(eq=False, slots=True)
class OpenTicket:
    """A computation into `extent`, which nobody else gets while its holder may still write
    there."""

    ticket_id: TicketId
    spec: SegmentSpec
    extent: Extent
    lease: Lease
    cost: float
    """Of computing it, in seconds per token, as the profile has it."""
    doomed: bool = False
    """Its passage was removed meanwhile: the result is not published."""


class Claims:
    """Open tickets, and for each key the one that others wait for.

    A ticket that is silent for too long loses the claim on its key, not its extent.
    Not thread-safe: the metadata lock guards it.
    """

    def __init__(self, ttl_s: float) -> None:
        self._ttl_s = ttl_s
        self._tickets: dict[TicketId, OpenTicket] = {}
        self._flying: dict[SegmentKey, OpenTicket] = {}
        self._landing: set[OpenTicket] = set()
        self._reserved: Counter[HolderId] = Counter()
        self._bounds: dict[HolderId, int] = {}

    def __len__(self) -> int:
        return len(self._tickets)

    def bound(self, holder: HolderId, max_bytes: int) -> None:
        """From now on the open tickets of this holder reserve no more than this."""
        self._bounds[holder] = max_bytes

    def unbound(self, holder: HolderId) -> None:
        """It has ended. Idempotent."""
        self._bounds.pop(holder, None)

    def may_reserve(self, holder: HolderId, nbytes: int) -> bool:
        bound = self._bounds.get(holder)
        return bound is None or self._reserved[holder] + taken_bytes(nbytes) <= bound

    def open(
        self, ticket_id: TicketId, spec: SegmentSpec, extent: Extent, lease: Lease, cost: float
    ) -> OpenTicket:
        """It has no claim on its key yet."""
        ticket = OpenTicket(ticket_id, spec, extent, lease, cost)
        self._open(ticket)
        return ticket

    def claim(self, tickets: Mapping[SegmentKey, OpenTicket], lease: Lease) -> None:
        """Others wait for these keys from now on: none of them is flying. One copy of a dict."""
        self._flying.update(tickets)
        self.renew(lease)

    def find(self, ticket_id: TicketId, holder: HolderId) -> OpenTicket | None:
        """If it is open, and the holder's: nobody else may say that its extent is written."""
        ticket = self._tickets.get(ticket_id)
        return ticket if ticket is not None and ticket.lease.holder == holder else None

    def tickets(self) -> list[OpenTicket]:
        """The open ones."""
        return list(self._tickets.values())

    def unfinished(self) -> list[OpenTicket]:
        """The open ones, and those whose result is being verified."""
        return [*self._tickets.values(), *self._landing]

    def is_flying(self, key: SegmentKey) -> bool:
        """Whether somebody computes it and has not been silent for too long."""
        ticket = self._flying.get(key)
        return ticket is not None and ticket.lease.claims_end_at > time.monotonic()

    def expiry(self, key: SegmentKey) -> float | None:
        """When the claim on the key ends by itself; None where none stands."""
        return self._flying[key].lease.claims_end_at if self.is_flying(key) else None

    def renew(self, lease: Lease) -> None:
        """A sign of life: all computations of this lease go on, as far as their claims stand."""
        lease.claims_end_at = time.monotonic() + self._ttl_s

    def detach(self, ticket: OpenTicket) -> None:
        """No longer open; its claim stands until `land`, its extent is the caller's."""
        del self._tickets[ticket.ticket_id]
        self._reserved[ticket.lease.holder] -= taken_bytes(ticket.extent.nbytes)
        if not self._reserved[ticket.lease.holder]:
            del self._reserved[ticket.lease.holder]
        self._landing.add(ticket)
        ticket.lease.tickets.discard(ticket.ticket_id)

    def reopen(self, ticket: OpenTicket) -> None:
        """What was detached is as it was before."""
        self._landing.discard(ticket)
        self._open(ticket)

    def land(self, ticket: OpenTicket) -> None:
        """The claim ends, if it was not lost to another before."""
        self._landing.discard(ticket)
        if self._flying.get(ticket.spec.key) is ticket:
            del self._flying[ticket.spec.key]

    @property
    def all_flying(self) -> Mapping[SegmentKey, OpenTicket]:
        """With those that have been silent for too long, until somebody notices."""
        return self._flying

    def flying(self) -> list[OpenTicket]:
        """Those on whose result others wait. One copy of a dict's values."""
        return list(self._flying.values())

    def expire(self, ticket: OpenTicket) -> None:
        """Its claim ends, if it was silent for too long."""
        if ticket.lease.claims_end_at <= time.monotonic():
            self.land(ticket)

    def _open(self, ticket: OpenTicket) -> None:
        self._tickets[ticket.ticket_id] = ticket
        ticket.lease.tickets.add(ticket.ticket_id)
        self._reserved[ticket.lease.holder] += taken_bytes(ticket.extent.nbytes)
