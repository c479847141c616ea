"""What every client of a store shares, wherever the store is: maps, generations, checksums.

A map keeps its arena's memory from a store that starts again. So an arena is unmapped when no lease
from it is open and either another incarnation has answered or its owner is gone; for the latter a
thread looks, since an idle client makes no call.
"""

import math
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from kvstore.arena import ArenaMap
from kvstore.checksum import segment_crcs
from kvstore.errors import StoreUnavailableError
from kvstore.holders import Holder
from kvstore.supervised import SupervisedThread
from kvstore.types import (
    Acquired,
    Extent,
    HolderId,
    LeaseId,
    Path,
    SegmentKey,
    StoreStats,
    Ticket,
    TicketId,
    TierName,
)

_POLL_S = 100e-6
_OWNER_POLL_S = 0.25
"""How often who waits for a layer looks whether the store still lives."""


class MappedClient(ABC):
    """A StoreClient on the store's node; a subclass says how a call gets there.

    One client object is one holder: what it holds ends with `close` or with its process. An arena
    stays mapped while a lease from it is open, so that a restart of the store takes nothing from
    readers; views that are out keep its memory longer.
    """

    def __init__(self, dram_dir: str) -> None:
        self._holder = Holder(dram_dir)
        self._lock = threading.Lock()
        self._maps: dict[str, ArenaMap] = {}
        self._current = ""  # incarnation of the latest answer
        self._leases: dict[LeaseId, str] = {}  # open ones, and the incarnation of each
        self._orphaned: set[str] = set()  # mapped incarnations whose owner is gone
        self._watch: SupervisedThread | None = None
        self._closed = False

    @property
    def holder_id(self) -> HolderId:
        return self._holder.holder_id

    @abstractmethod
    def _acquire(
        self, paths: Sequence[Path], deadline_s: float, streamed: bool, claim: bool
    ) -> Acquired: ...

    @abstractmethod
    def _commit(self, ticket_ids: list[TicketId], crcs: list[tuple[int, ...]]) -> None: ...

    @abstractmethod
    def _abort(self, ticket_ids: list[TicketId]) -> None: ...

    @abstractmethod
    def _release(self, lease_id: LeaseId) -> None: ...

    @abstractmethod
    def _trim(
        self, kept: Mapping[LeaseId, Collection[SegmentKey]], used: Sequence[SegmentKey]
    ) -> None: ...

    @abstractmethod
    def _announce(self, request_id: str, keys: list[SegmentKey], deadline_s: float) -> None: ...

    @abstractmethod
    def _unregister(self) -> None: ...

    @abstractmethod
    def wait(self, keys: Collection[SegmentKey], deadline_s: float) -> None: ...

    @abstractmethod
    def retire(self, request_id: str) -> None: ...

    @abstractmethod
    def locate(self, keys: Collection[SegmentKey]) -> Mapping[SegmentKey, TierName]: ...

    @abstractmethod
    def remove_tags(self, tags: Collection[bytes]) -> int: ...

    @abstractmethod
    def stats(self) -> StoreStats: ...

    def acquire(
        self,
        paths: Sequence[Path],
        deadline_s: float,
        streamed: bool = False,
        claim: bool = True,
    ) -> Acquired:
        acquired = self._acquire(paths, deadline_s, streamed, claim)
        try:
            with self._lock:
                self._remember(acquired)
        except StoreUnavailableError:
            self._release(acquired.lease_id)
            raise
        return acquired

    def await_layer(
        self,
        acquired: Acquired,
        extents: Collection[Extent],
        layer: int,
        deadline_s: float,
        stall_s: float = math.inf,
    ) -> bool:
        arena, now = self._map(acquired), time.monotonic()
        give_up, next_look = now + deadline_s, now + _OWNER_POLL_S
        stalled_at, seen = now + stall_s, list(map(arena.num_arrived, extents))
        for extent in extents:
            while (arrived := arena.num_arrived(extent)) <= layer:
                now = time.monotonic()
                if arrived < 0 or now >= give_up:
                    return False
                if now >= stalled_at:
                    before, seen = seen, list(map(arena.num_arrived, extents))
                    if seen == before:
                        return False
                    stalled_at = now + stall_s
                if now >= next_look:
                    if not arena.is_owned():
                        return False
                    next_look = now + _OWNER_POLL_S
                time.sleep(_POLL_S)
        return True

    def view(self, acquired: Acquired, extent: Extent) -> memoryview:
        return self._map(acquired).view(extent)

    def writable(self, acquired: Acquired, ticket: Ticket) -> memoryview:
        if ticket.extent is None:
            raise ValueError(f"ticket {ticket.ticket_id} has no extent: there was no room")
        return self._map(acquired).writable(ticket.extent)

    def unchanged(self, acquired: Acquired, extents: Collection[Extent]) -> bool:
        arena = self._map(acquired)
        return all(arena.unchanged(extent) for extent in extents)

    def commit(self, acquired: Acquired, tickets: Sequence[Ticket]) -> None:
        crcs = [segment_crcs(t.spec, self.writable(acquired, t)) for t in tickets]
        self.publish(tickets, crcs)

    def publish(self, tickets: Sequence[Ticket], crcs: Sequence[tuple[int, ...]]) -> None:
        """Commit what was written with checksums that came with it. Raises CorruptSegmentError
        when some of it is not what they say; the rest is published."""
        if tickets:
            self._commit([ticket.ticket_id for ticket in tickets], list(crcs))

    def abort(self, acquired: Acquired, tickets: Sequence[Ticket]) -> None:
        """Of tickets of an incarnation that is gone nothing is left to give back."""
        claimed = [ticket.ticket_id for ticket in tickets if ticket.extent is not None]
        if claimed:
            self._abort(claimed)

    def release(self, lease_id: LeaseId) -> None:
        with self._lock:
            self._leases.pop(lease_id, None)
            self._drop_unused_maps()
        self._release(lease_id)

    def trim(
        self, kept: Mapping[LeaseId, Collection[SegmentKey]], used: Sequence[SegmentKey] = ()
    ) -> None:
        with self._lock:
            for lease_id, keys in kept.items():
                if not keys:
                    self._leases.pop(lease_id, None)
            self._drop_unused_maps()
        self._trim(kept, used)

    def announce(self, request_id: str, paths: Sequence[Path], deadline_s: float) -> None:
        keys = dict.fromkeys(spec.key for path in paths for spec in path)
        self._announce(request_id, list(keys), deadline_s)

    def close(self) -> None:
        """End every lease and ticket; views that are out stay valid, unpinned. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._maps.clear()
            self._leases.clear()
        if self._watch is not None:
            self._watch.stop()
        try:
            self._unregister()
        finally:
            self._holder.close()

    def _remember(self, acquired: Acquired) -> None:
        if self._closed:
            raise StoreUnavailableError("the store's client is closed")
        incarnation = acquired.arena.incarnation
        if incarnation not in self._maps:
            self._maps[incarnation] = ArenaMap(acquired.arena)
        if self._watch is None:
            self._watch = SupervisedThread("store-owner-watch", self._look, _OWNER_POLL_S)
        self._current = incarnation
        self._leases[acquired.lease_id] = incarnation
        self._drop_unused_maps()

    def _look(self) -> bool:
        """One step of the watch: which owners are gone. They do not come back."""
        with self._lock:
            maps = dict(self._maps)
        gone = {incarnation for incarnation, arena in maps.items() if not arena.is_owned()}
        del maps
        with self._lock:
            self._orphaned |= gone & self._maps.keys()
            self._drop_unused_maps()
        return True

    def _drop_unused_maps(self) -> None:
        """Dropping is enough: views keep the memory that they need."""
        used = Counter(self._leases.values())
        for incarnation in [i for i in self._maps if not used[i]]:
            if incarnation != self._current or incarnation in self._orphaned:
                del self._maps[incarnation]
                self._orphaned.discard(incarnation)

    def _map(self, acquired: Acquired) -> ArenaMap:
        with self._lock:
            found = self._maps.get(acquired.arena.incarnation)
        if found is None:
            raise StoreUnavailableError(
                f"lease {acquired.lease_id} was released, and its arena is gone"
            )
        return found
