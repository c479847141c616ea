"""What a shard does for other nodes: reads for them, keeps their claims, takes what they computed.

A guest's lease ends when the shard of its own node says that its process has ended, when its node
is gone, and after a time without a sign of life. Who gets a parcel verifies it, so that a lease
that ended too soon costs a read, and never yields a wrong byte.
"""

import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

import numpy as np

from actors.parcels import CHUNK_BYTES, Parcel, chunks, is_parcel, require_few
from actors.stays import Filling, Guest, Stays, require_guest
from kvstore import arguments
from kvstore.config import StoreConfig
from kvstore.errors import CapacityError, KVStoreError
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.types import Acquired, HolderId, LeaseId, Path, SegmentKey, SegmentSpec

_IMPORT_TIMEOUT_S = 5.0
_ITSELF = Guest("", HolderId(""))


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


@dataclass(frozen=True, slots=True)
class TakenOver:
    """What became of segments that were handed to this node."""

    kept: frozenset[SegmentKey]
    """It owns them and has them, and their former owner may let them go."""
    refused: frozenset[SegmentKey]
    """It has not got them, for want of room or another reason."""


class Guests:
    """Thread-safe. The shard's own process holds what guests lease."""

    def __init__(self, store: KVStore, config: StoreConfig) -> None:
        self._store, dram_dir, lease_s = store, config.dram_dir, config.ticket_ttl_s
        self._client = LocalStoreClient(store, dram_dir)
        self._intake = LocalStoreClient(store, dram_dir)
        max_bytes = int(config.guests_share * config.dram_bytes)
        store.bound_claims(self._client.holder_id, max_bytes)
        self._stays = Stays(self._client, lease_s)
        self._arriving = Stays(self._intake, lease_s)
        """Leases of parcels that nobody had claimed, while each is taken in."""
        self._lock = threading.Lock()
        self.sent_bytes = self.received_bytes = 0
        """Of KV, since the start; what was received was kept."""

    def __len__(self) -> int:
        return len(self._stays)

    def fetch(
        self, guest: Guest, paths: Sequence[Path], deadline_s: float, claim: bool, max_bytes: int
    ) -> Fetched:
        """Match, pin and claim; the first `max_bytes` of what was found, one segment at least.
        Raises ValueError for a guest that is none, who could never be asked whether it lives."""
        require_guest("guest", guest)
        arguments.require_bytes("max_bytes", max_bytes)
        acquired = self._client.acquire(paths, deadline_s, claim=claim)
        self._stays.begin(guest, acquired)
        found = tuple(hit.spec for hit in acquired.hits.values())
        first = [spec.key for spec in next(chunks(found, min(max_bytes, CHUNK_BYTES)), [])]
        claimed = [t.spec.key for t in acquired.tickets.values() if t.extent is not None]
        parcels = tuple(self._parcels(self._client, acquired, first))
        lease_id, waiters = acquired.lease_id, acquired.waiters
        return Fetched(lease_id, found, parcels, frozenset(claimed), waiters)

    def read(self, lease_id: LeaseId, keys: Collection[SegmentKey]) -> tuple[Parcel, ...]:
        """More of what was found, as much of it as one reply carries, one segment at least. Raises
        StoreUnavailableError when the lease has ended."""
        require_few("keys", keys)
        acquired = self._stays.acquired(lease_id)
        found = (acquired.hits[key].spec for key in keys if key in acquired.hits)
        first = [spec.key for spec in next(chunks(found, CHUNK_BYTES), [])]
        return tuple(self._parcels(self._client, acquired, first))

    def deliver(self, lease_id: LeaseId | None, parcels: Sequence[Parcel]) -> int:
        """Keep what a guest computed; how many were new and sound. What was not claimed under this
        lease, or has no lease that lasts, fills the ticket of whoever claimed it, or one of its
        own."""
        require_few("parcels", parcels)
        return sum(is_parcel(parcel) and self._deliver(lease_id, parcel) for parcel in parcels)

    def take_over(self, parcels: Sequence[Parcel]) -> TakenOver:
        """Keep what this node owns since the membership changed. All of it stays pinned for a
        moment, until the disk has it: one would be evicted for the next, and the queue in which
        they are written would overflow."""
        require_few("parcels", parcels)
        sent = [parcel for parcel in parcels if is_parcel(parcel)]
        with ExitStack() as pinned:
            for parcel in sent:
                # No room, damaged, removed meanwhile, or it contradicts what is here.
                with suppress(KVStoreError, ValueError):
                    pinned.enter_context(self._taken_in(parcel))
            self._store.flush(_IMPORT_TIMEOUT_S)
        keys = [parcel.spec.key for parcel in sent]
        kept = self._store.kept(keys)
        refused = set(keys) - kept - self._store.locate(keys).keys()
        return TakenOver(frozenset(kept), frozenset(refused))

    def leave(self, lease_id: LeaseId) -> None:
        """The guest needs nothing more under this lease. Idempotent."""
        self._stays.end(lease_id)

    def claimants(self) -> dict[str, set[HolderId]]:
        """By node, the guests that others may be waiting for."""
        return self._stays.claimants()

    def expire(self, dead: Collection[Guest] = ()) -> None:
        """End what guests have held for too long, and all of those that have ended."""
        self._stays.expire(dead)

    def parcels(self, specs: Sequence[SegmentSpec]) -> tuple[Acquired, list[Parcel]]:
        """What this node has of them, for another; the lease is the caller's to release."""
        acquired = self._intake.acquire([(spec,) for spec in specs], _IMPORT_TIMEOUT_S, claim=False)
        return acquired, self._parcels(self._intake, acquired, acquired.hits)

    def release(self, acquired: Acquired) -> None:
        self._intake.release(acquired.lease_id)

    def close(self, timeout_s: float) -> None:
        """Where a copy does not end in time its memory stays taken for as long as the store is."""
        for stays, client in ((self._stays, self._client), (self._arriving, self._intake)):
            if stays.close(timeout_s / 2):
                client.close()

    def _parcels(
        self, client: LocalStoreClient, acquired: Acquired, keys: Collection[SegmentKey]
    ) -> list[Parcel]:
        """With the checksums that they came with: damage in this node's memory is seen by who gets
        them; and with the removals that were made here before. What was damaged or removed since it
        was found is left out."""
        lineages = self._store.lineages(keys)
        crcs = self._store.checksums(keys)
        parcels = []
        for key in keys:
            if key in crcs and key in lineages and (hit := acquired.hits.get(key)):
                view = client.view(acquired, hit.extent)
                data = np.frombuffer(view, np.uint8)
                parcels.append(Parcel(hit.spec, crcs[key], data, lineages[key]))
        with self._lock:
            self.sent_bytes += sum(parcel.data.nbytes for parcel in parcels)
        return parcels

    def _deliver(self, lease_id: LeaseId | None, parcel: Parcel) -> bool:
        try:
            with self._stays.filling(lease_id, parcel.spec) as filling:
                if filling:
                    self._fill(self._client, filling, parcel)
                    return True
            with self._taken_in(parcel) as is_new:
                return is_new
        except (KVStoreError, ValueError):  # damaged, no room, or it was removed meanwhile
            return False

    @contextmanager
    def _taken_in(self, parcel: Parcel) -> Iterator[bool]:
        """Whether it was new; it is pinned until the block ends. Raises CapacityError when there is
        no room for it."""
        acquired = self._intake.acquire([(parcel.spec,)], _IMPORT_TIMEOUT_S)
        self._arriving.begin(_ITSELF, acquired)
        try:
            with self._arriving.filling(acquired.lease_id, parcel.spec) as filling:
                if filling:
                    self._fill(self._intake, filling, parcel)
                elif parcel.spec.key in acquired.tickets:
                    raise CapacityError(parcel.spec.layout.nbytes, 0)
            yield filling is not None
        finally:
            self._arriving.end(acquired.lease_id)

    def _fill(self, client: LocalStoreClient, filling: Filling, parcel: Parcel) -> None:
        """The store verifies it; raises CorruptSegmentError or ValueError for the wrong bytes."""
        parcel.copy_into(client.writable(filling.acquired, filling.ticket))
        client.publish([filling.ticket], [parcel.crcs], [parcel.lineage])
        with self._lock:
            self.received_bytes += parcel.data.nbytes
