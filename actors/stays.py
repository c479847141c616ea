"""Leases that other nodes hold on this node's store, and the copies that fill their tickets.

    open ----- end ------> ended, released           (nobody writes)
      |                      ^
      +-- end while filled --+  when the last copy has ended

An extent belongs to whoever writes into it until the copy has ended: a lease that ends meanwhile is
released by the last copy, never under it. A ticket is filled once, by one delivery.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from kvstore import arguments
from kvstore.errors import StoreUnavailableError
from kvstore.local import LocalStoreClient
from kvstore.types import Acquired, HolderId, LeaseId, SegmentKey, SegmentSpec, Ticket


@dataclass(frozen=True, slots=True)
class Guest:
    """A process of another node, by the lock file that it holds there."""

    node_id: str
    holder: HolderId


def require_guest(name: str, guest: Guest) -> None:
    if not isinstance(guest, Guest):
        raise arguments.refused(name, guest, "a guest")
    if not isinstance(guest.node_id, str):
        raise arguments.refused(f"{name}.node_id", guest.node_id, "text")
    arguments.require_holder(f"{name}.holder", guest.holder)


@dataclass(frozen=True, slots=True)
class Filling:
    """A ticket whose extent is being written."""

    acquired: Acquired
    ticket: Ticket


@dataclass(eq=False, slots=True)
class _Stay:
    guest: Guest
    acquired: Acquired
    expires_at: float
    unfilled: dict[SegmentKey, Ticket]
    num_fills: int = 0
    """Copies into its extents that run now."""
    ended: bool = False


class Stays:
    """Thread-safe. Every lease in it was acquired by `client`, which releases it."""

    def __init__(self, client: LocalStoreClient, lease_s: float) -> None:
        """A lease ends `lease_s` after the last sign of its guest's life."""
        self._client, self._lease_s = client, lease_s
        self._changed = threading.Condition()
        self._stays: dict[LeaseId, _Stay] = {}
        self._claimed: dict[SegmentKey, _Stay] = {}
        """Of each ticket that no delivery has taken: whose it is, the latest one."""
        self._closed = False

    def __len__(self) -> int:
        return len(self._stays)

    def begin(self, guest: Guest, acquired: Acquired) -> None:
        """Raises StoreUnavailableError once closed; then the lease is released."""
        unfilled = {k: t for k, t in acquired.tickets.items() if t.extent is not None}
        stay = _Stay(guest, acquired, time.monotonic() + self._lease_s, unfilled)
        with self._changed:
            if not self._closed:
                self._stays[acquired.lease_id] = stay
                self._claimed |= dict.fromkeys(unfilled, stay)
                return
        self._release(stay)
        raise StoreUnavailableError("the store is closing")

    def acquired(self, lease_id: LeaseId) -> Acquired:
        """Raises StoreUnavailableError when the lease has ended."""
        with self._changed:
            stay = self._stays.get(lease_id)
            if stay is None or stay.ended:
                raise StoreUnavailableError(f"the guest's lease {lease_id} has ended")
            return stay.acquired

    @contextmanager
    def filling(self, lease_id: LeaseId | None, spec: SegmentSpec) -> Iterator[Filling | None]:
        """The ticket of this segment under the lease, or else under any other: its extent is the
        caller's to write until the block ends. None where there is no such ticket, or another
        delivery took it."""
        with self._changed:
            stay, ticket = self._take(lease_id, spec)
        if stay is None or ticket is None:
            yield None
            return
        try:
            yield Filling(stay.acquired, ticket)
        finally:
            with self._changed:
                stay.num_fills -= 1
                is_last = stay.ended and not stay.num_fills
                self._changed.notify_all()
            if is_last:
                self._release(stay)

    def end(self, lease_id: LeaseId) -> None:
        """The guest needs nothing more under this lease. Idempotent."""
        with self._changed:
            stay = self._stays.get(lease_id)
            if stay is None or stay.ended:
                return
            stay.ended = True
            for key in stay.unfilled:
                self._disclaim(key, stay)
            if stay.num_fills:
                return
        self._release(stay)

    def claimants(self) -> dict[str, set[HolderId]]:
        """By node, the guests that others may be waiting for."""
        found = defaultdict[str, set[HolderId]](set)
        with self._changed:
            for stay in self._stays.values():
                if stay.acquired.tickets and not stay.ended:
                    found[stay.guest.node_id].add(stay.guest.holder)
        return found

    def expire(self, dead: Collection[Guest]) -> None:
        """End what was silent for too long, and all of the guests that have ended."""
        now = time.monotonic()
        with self._changed:
            stays = list(self._stays.items())
        for lease_id, stay in stays:
            if stay.expires_at < now or stay.guest in dead:
                self.end(lease_id)

    def close(self, timeout_s: float) -> bool:
        """End all; whether every copy has ended in time."""
        with self._changed:
            self._closed, lease_ids = True, list(self._stays)
        for lease_id in lease_ids:
            self.end(lease_id)
        with self._changed:
            return self._changed.wait_for(lambda: not self._stays, timeout_s)

    def _take(
        self, lease_id: LeaseId | None, spec: SegmentSpec
    ) -> tuple[_Stay | None, Ticket | None]:
        stay = self._stays.get(lease_id) if lease_id is not None else None
        if stay is None or stay.ended or spec.key not in stay.unfilled:
            stay = self._claimed.get(spec.key)
        if stay is None or stay.unfilled[spec.key].spec != spec:
            return None, None
        ticket = stay.unfilled.pop(spec.key)
        self._disclaim(spec.key, stay)
        stay.num_fills += 1
        stay.expires_at = time.monotonic() + self._lease_s
        return stay, ticket

    def _disclaim(self, key: SegmentKey, stay: _Stay) -> None:
        if self._claimed.get(key) is stay:
            del self._claimed[key]

    def _release(self, stay: _Stay) -> None:
        """Before it is forgotten: until then it counts as one whose memory is in use."""
        with suppress(StoreUnavailableError):
            self._client.release(stay.acquired.lease_id)
        with self._changed:
            self._stays.pop(stay.acquired.lease_id, None)
            self._changed.notify_all()
