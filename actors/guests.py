"""What a shard does for other nodes: reads for them, keeps their claims, takes what they computed.

A guest's lease ends when the shard of its own node says that its process has ended, when its node
is gone, and after a time. Bytes travel as arrays, which Ray carries out of band, each with the
checksums of its layers: who gets them verifies them, so that a lease that ended too soon costs a
read, and never yields a wrong byte.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvstore.checksum import segment_crcs
from kvstore.errors import KVStoreError, StoreUnavailableError
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.types import Acquired, HolderId, LeaseId, Path, SegmentKey, SegmentSpec, Ticket

_IMPORT_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Parcel:
    """A segment on its way between nodes."""

    spec: SegmentSpec
    crcs: tuple[int, ...]
    data: NDArray[np.uint8]

    @property
    def fits(self) -> bool:
        return self.data.nbytes == self.spec.layout.nbytes

    @property
    def is_sound(self) -> bool:
        return self.fits and segment_crcs(self.spec, self.data.data) == self.crcs

    def copy_into(self, extent: memoryview) -> None:
        """Releases the GIL, which assigning to the view would keep for milliseconds."""
        np.copyto(np.frombuffer(extent, np.uint8), self.data)


@dataclass(frozen=True, slots=True)
class Guest:
    """A process of another node, by the lock file that it holds there."""

    node_id: str
    holder: HolderId


@dataclass(frozen=True, slots=True)
class Fetched:
    """The answer to one `fetch`; of `found` not all may have come along."""

    lease_id: LeaseId
    found: tuple[SegmentSpec, ...]
    parcels: tuple[Parcel, ...]
    """The first of them, as many as were to be sent at once."""
    tickets: frozenset[SegmentKey]
    """The guest's to compute, and to deliver under the lease."""
    waiters: frozenset[SegmentKey]
    """Computed by another."""


@dataclass(slots=True)
class _Stay:
    guest: Guest
    acquired: Acquired
    expires_at: float


class Guests:
    """Thread-safe. The shard's own process holds what guests lease."""

    def __init__(self, store: KVStore, dram_dir: str, lease_s: float) -> None:
        self._store = store
        self._client = LocalStoreClient(store, dram_dir)
        self._lease_s = lease_s
        self._lock = threading.Lock()
        self._stays: dict[LeaseId, _Stay] = {}
        self.sent_bytes = self.received_bytes = 0
        """Of KV, since the start; what was received was kept."""

    def __len__(self) -> int:
        return len(self._stays)

    def fetch(
        self, guest: Guest, paths: Sequence[Path], deadline_s: float, claim: bool, max_bytes: int
    ) -> Fetched:
        """Match, pin and claim; the first `max_bytes` of what was found, one segment at least."""
        acquired = self._client.acquire(paths, deadline_s, claim=claim)
        stay = _Stay(guest, acquired, time.monotonic() + self._lease_s)
        with self._lock:
            self._stays[acquired.lease_id] = stay
        found = tuple(hit.spec for hit in acquired.hits.values())
        first = [spec.key for spec in next(chunks(found, max_bytes), [])]
        claimed = [t.spec.key for t in acquired.tickets.values() if t.extent is not None]
        parcels = tuple(self._parcels(acquired, first))
        lease_id, waiters = acquired.lease_id, acquired.waiters
        return Fetched(lease_id, found, parcels, frozenset(claimed), waiters)

    def read(self, lease_id: LeaseId, keys: Collection[SegmentKey]) -> tuple[Parcel, ...]:
        """More of what was found. Raises StoreUnavailableError when the lease has ended."""
        acquired = self._stay(lease_id).acquired
        return tuple(self._parcels(acquired, keys))

    def deliver(self, lease_id: LeaseId | None, parcels: Sequence[Parcel]) -> int:
        """Keep what a guest computed, or has; how many were new and sound."""
        stay = self._stays.get(lease_id) if lease_id is not None else None
        kept = 0
        for parcel in parcels:
            ticket = stay.acquired.tickets.get(parcel.spec.key) if stay else None
            try:
                if stay and ticket and ticket.extent is not None:
                    self._fill(stay.acquired, ticket, parcel)
                elif not self._take_in(parcel):
                    continue
            except (KVStoreError, ValueError):  # damaged, no room, or it was removed meanwhile
                continue
            kept += 1
            with self._lock:
                self.received_bytes += parcel.data.nbytes
        return kept

    def leave(self, lease_id: LeaseId) -> None:
        """The guest needs nothing more under this lease. Idempotent."""
        with self._lock:
            stay = self._stays.pop(lease_id, None)
        if stay is not None:
            with suppress(StoreUnavailableError):
                self._client.release(lease_id)

    def claimants(self) -> dict[str, set[HolderId]]:
        """By node, the guests that others may be waiting for."""
        found = defaultdict[str, set[HolderId]](set)
        with self._lock:
            for stay in self._stays.values():
                if stay.acquired.tickets:
                    found[stay.guest.node_id].add(stay.guest.holder)
        return found

    def expire(self, dead: Collection[Guest] = ()) -> None:
        """End what guests have held for too long, and all of those that have ended."""
        now = time.monotonic()
        with self._lock:
            stays = list(self._stays.items())
        for lease_id, stay in stays:
            if stay.expires_at < now or stay.guest in dead:
                self.leave(lease_id)

    def parcels(self, specs: Sequence[SegmentSpec]) -> tuple[Acquired, list[Parcel]]:
        """What this node has of them, for another; the lease is the caller's to release."""
        acquired = self._client.acquire([(spec,) for spec in specs], _IMPORT_TIMEOUT_S, claim=False)
        return acquired, self._parcels(acquired, acquired.hits)

    def release(self, acquired: Acquired) -> None:
        self._client.release(acquired.lease_id)

    def close(self) -> None:
        self._client.close()

    def _stay(self, lease_id: LeaseId) -> _Stay:
        stay = self._stays.get(lease_id)
        if stay is None:
            raise StoreUnavailableError(f"the guest's lease {lease_id} has ended")
        return stay

    def _parcels(self, acquired: Acquired, keys: Collection[SegmentKey]) -> list[Parcel]:
        """With the checksums that they came with: damage in this node's memory is seen by who gets
        them. What was damaged or removed since it was found is left out."""
        crcs = self._store.checksums(keys)
        parcels = []
        for key in keys:
            if key in crcs:
                hit = acquired.hits[key]
                view = self._client.view(acquired, hit.extent)
                parcels.append(Parcel(hit.spec, crcs[key], np.frombuffer(view, np.uint8)))
        with self._lock:
            self.sent_bytes += sum(parcel.data.nbytes for parcel in parcels)
        return parcels

    def _take_in(self, parcel: Parcel) -> bool:
        """Whether it was new."""
        acquired = self._client.acquire([(parcel.spec,)], _IMPORT_TIMEOUT_S)
        try:
            ticket = acquired.tickets.get(parcel.spec.key)
            if ticket is None or ticket.extent is None:
                return False
            self._fill(acquired, ticket, parcel)
            return True
        finally:
            self._client.release(acquired.lease_id)

    def _fill(self, acquired: Acquired, ticket: Ticket, parcel: Parcel) -> None:
        """The store verifies it; raises CorruptSegmentError or ValueError for the wrong bytes."""
        parcel.copy_into(self._client.writable(acquired, ticket))
        self._client.publish([ticket], [parcel.crcs])


def chunks(specs: Iterable[SegmentSpec], max_bytes: int) -> Iterator[list[SegmentSpec]]:
    """Runs of at most so many bytes; a segment that is larger is one alone."""
    chunk, nbytes = list[SegmentSpec](), 0
    for spec in specs:
        if chunk and nbytes + spec.layout.nbytes > max_bytes:
            yield chunk
            chunk, nbytes = [], 0
        chunk.append(spec)
        nbytes += spec.layout.nbytes
    if chunk:
        yield chunk
