"""N concurrent misses of one segment cost one computation: who computes what, until when."""

import time
from collections import Counter
from collections.abc import Collection
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
    expires_at: float
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
        """Claim a key that is not flying."""
        assert not self.is_flying(spec.key), f"{spec.key} is claimed twice"
        ticket = OpenTicket(ticket_id, spec, extent, lease, time.monotonic() + self._ttl_s, cost)
        self._tickets[ticket_id] = self._flying[spec.key] = ticket
        lease.tickets.add(ticket_id)
        self._reserved[lease.holder] += taken_bytes(extent.nbytes)
        return ticket

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
        return ticket is not None and ticket.expires_at > time.monotonic()

    def next_expiry(self, keys: Collection[SegmentKey]) -> float | None:
        """When the first of these claims that still stand will end by itself; None: none stands."""
        return min((self._flying[k].expires_at for k in keys if self.is_flying(k)), default=None)

    def renew(self, lease: Lease) -> None:
        """A sign of life: the other computations of this lease go on."""
        for ticket_id in lease.tickets:
            ticket = self._tickets[ticket_id]
            if self._flying.get(ticket.spec.key) is ticket:
                ticket.expires_at = time.monotonic() + self._ttl_s

    def detach(self, ticket: OpenTicket) -> None:
        """No longer open; its claim stands until `land`, its extent is the caller's."""
        del self._tickets[ticket.ticket_id]
        self._reserved[ticket.lease.holder] -= taken_bytes(ticket.extent.nbytes)
        if not self._reserved[ticket.lease.holder]:
            del self._reserved[ticket.lease.holder]
        self._landing.add(ticket)
        ticket.lease.tickets.discard(ticket.ticket_id)

    def land(self, ticket: OpenTicket) -> None:
        """The claim ends, if it was not lost to another before."""
        self._landing.discard(ticket)
        if self._flying.get(ticket.spec.key) is ticket:
            del self._flying[ticket.spec.key]

    def expire(self) -> bool:
        """End the claims of silent tickets; whether there were any."""
        now = time.monotonic()
        silent = [t for t in self._flying.values() if t.expires_at <= now]
        for ticket in silent:
            self.land(ticket)
        return bool(silent)
