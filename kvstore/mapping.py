"""What every client of a store shares, wherever the store is: maps, generations, checksums."""

import math
import time
from collections.abc import Collection, Mapping, Sequence

from kvstore.arena_maps import LOOK_S, ArenaMaps
from kvstore.arguments import (
    refused,
    require_flag,
    require_id,
    require_name,
    require_removal,
    require_seconds,
    taken_items,
    taken_kept,
    taken_keys,
    taken_tags,
)
from kvstore.calls import StoreCalls
from kvstore.chains import taken_chains
from kvstore.checksum import segment_crcs
from kvstore.errors import StoreUnavailableError
from kvstore.holders import Holder
from kvstore.open_tickets import OpenTickets
from kvstore.supervised import SupervisedThread
from kvstore.types import (
    Acquired,
    Extent,
    HolderId,
    LeaseId,
    Lineage,
    Path,
    SegmentKey,
    StoreStats,
    Ticket,
    TierName,
)

_POLL_S = 100e-6


class MappedClient(StoreCalls):
    """A StoreClient on the store's node; a subclass says how a call gets there.

    One client object is one holder: what it holds ends with `close` or with its process. An arena
    stays mapped while a lease from it is open, so that a restart of the store takes nothing from
    readers; views that are out keep its memory longer.
    """

    def __init__(self, dram_dir: str) -> None:
        self._holder = Holder(dram_dir)
        self._maps = ArenaMaps()
        self._tickets = OpenTickets()

    @property
    def holder_id(self) -> HolderId:
        return self._holder.holder_id

    def acquire(
        self,
        paths: Sequence[Path],
        deadline_s: float,
        streamed: bool = False,
        claim: bool = True,
    ) -> Acquired:
        """The store looks at the paths."""
        require_seconds("deadline_s", deadline_s)
        require_flag("streamed", streamed)
        require_flag("claim", claim)
        self._require_open()
        acquired = self._acquire(paths, deadline_s, streamed, claim)
        try:
            self._maps.add(acquired)
        except StoreUnavailableError:
            self._release(acquired.lease_id)
            raise
        self._tickets.add(acquired)
        return acquired

    def await_layer(
        self,
        acquired: Acquired,
        extents: Collection[Extent],
        layer: int,
        deadline_s: float,
        stall_s: float = math.inf,
    ) -> bool:
        require_seconds("deadline_s", deadline_s)
        if type(stall_s) is not float or stall_s != math.inf:
            require_seconds("stall_s", stall_s)
        extents = taken_items("extents", extents)
        if type(layer) is not int or layer < 0:
            raise refused("layer", layer, "a whole number, 0 or more")
        arena, now = self._maps.of(acquired), time.monotonic()
        give_up, next_look = now + deadline_s, now + LOOK_S
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
                    next_look = now + LOOK_S
                time.sleep(_POLL_S)
        return True

    def view(self, acquired: Acquired, extent: Extent) -> memoryview:
        return self._maps.of(acquired).view(extent)

    def writable(self, acquired: Acquired, ticket: Ticket) -> memoryview:
        _taken_tickets([ticket])
        if ticket.extent is None:
            raise ValueError(f"ticket {ticket.ticket_id} has no extent: there was no room")
        arena = self._maps.of(acquired)
        data = self._tickets.lend(acquired, ticket, arena.writable(ticket.extent))
        if data is None or not arena.unchanged(ticket.extent):
            raise StoreUnavailableError(
                f"ticket {ticket.ticket_id} is not open under lease {acquired.lease_id}"
            )
        return data

    def unchanged(self, acquired: Acquired, extents: Collection[Extent]) -> bool:
        arena = self._maps.of(acquired)
        extents = taken_items("extents", extents)
        return all(arena.unchanged(extent) for extent in extents)

    def commit(self, acquired: Acquired, tickets: Sequence[Ticket]) -> None:
        tickets = _taken_tickets(tickets)
        crcs = [segment_crcs(t.spec, self.writable(acquired, t)) for t in tickets]
        self.publish(tickets, crcs)

    def publish(
        self,
        tickets: Sequence[Ticket],
        crcs: Sequence[tuple[int, ...]],
        lineages: Sequence[Lineage | None] = (),
    ) -> None:
        """Commit what was written with checksums that came with it, and from other nodes with its
        lineage: what was removed since it left them is only for its caller. Raises
        CorruptSegmentError when some of it is not what they say; the rest is published."""
        tickets = _taken_tickets(tickets)
        self._require_open()
        if tickets:
            ticket_ids = [ticket.ticket_id for ticket in tickets]
            try:
                self._commit(ticket_ids, list(crcs), list(lineages))
            except ValueError:  # refused, and nothing has changed
                raise
            except BaseException:
                self._tickets.end(ticket_ids)
                raise
            self._tickets.end(ticket_ids)

    def abort(self, acquired: Acquired, tickets: Sequence[Ticket]) -> None:
        """Of tickets of an incarnation that is gone nothing is left to give back."""
        tickets = _taken_tickets(tickets)
        claimed = [ticket.ticket_id for ticket in tickets if ticket.extent is not None]
        self._tickets.end(claimed)
        if claimed and self._is_open:
            self._abort(claimed)

    def release(self, lease_id: LeaseId) -> None:
        require_id("lease_id", lease_id)
        self._maps.end([lease_id])
        self._tickets.end_leases([lease_id])
        if self._is_open:
            self._release(lease_id)

    def trim(
        self, kept: Mapping[LeaseId, Collection[SegmentKey]], used: Sequence[SegmentKey] = ()
    ) -> None:
        taken, used = taken_kept("kept", kept), taken_keys("used", used)
        self._maps.end([lease_id for lease_id, keys in taken.items() if not keys])
        self._tickets.end_leases(taken)
        if self._is_open:
            self._trim(taken, used)

    def wait(self, keys: Collection[SegmentKey], deadline_s: float) -> None:
        keys = taken_keys("keys", keys)
        require_seconds("deadline_s", deadline_s)
        self._require_open()
        self._wait(keys, deadline_s)

    def announce(self, request_id: str, paths: Sequence[Path], deadline_s: float) -> None:
        require_name("request_id", request_id)
        paths = taken_chains(paths)
        require_seconds("deadline_s", deadline_s)
        self._require_open()
        specs = [spec for path in paths for spec in path]
        if specs:
            keys = list(dict.fromkeys(spec.key for spec in specs))
            self._announce(request_id, specs[0].tenant, keys, deadline_s)

    def retire(self, request_id: str) -> None:
        require_name("request_id", request_id)
        if self._is_open:
            self._retire(request_id)

    def locate(self, keys: Collection[SegmentKey]) -> Mapping[SegmentKey, TierName]:
        keys = taken_keys("keys", keys)
        self._require_open()
        return self._locate(keys)

    def remove_tags(self, tags: Collection[bytes], removal: bytes = b"") -> int:
        """`removal`: its id, where other nodes make it too."""
        tags = taken_tags("tags", tags)
        require_removal("removal", removal)
        self._require_open()
        return self._remove_tags(tags, removal)

    def lineages(self, keys: Collection[SegmentKey]) -> dict[SegmentKey, Lineage]:
        """Of what is in DRAM, to travel with it: asked for before its checksums."""
        keys = taken_keys("keys", keys)
        self._require_open()
        return self._lineages(keys)

    def checksums(self, keys: Collection[SegmentKey]) -> dict[SegmentKey, tuple[int, ...]]:
        """Of the layers of what is in DRAM, as it came there."""
        keys = taken_keys("keys", keys)
        self._require_open()
        return self._checksums(keys)

    def stats(self) -> StoreStats:
        self._require_open()
        return self._stats()

    def close(self) -> None:
        """End every lease and ticket; views that are out stay valid, unpinned. Idempotent.

        Nothing is given back under a writer: while a view is out into which an open ticket is being
        written, the leases stand. A thread ends them when it is gone, or the kernel with the
        process. From `close` on calls that give something back do nothing; all others raise
        StoreUnavailableError.
        """
        if self._maps.close():
            self._tickets.close()
            if self._holder.is_held and self._tickets.is_written:
                SupervisedThread("store-client-end", self._end_unwritten, LOOK_S)
            else:
                self._end()

    def _end_unwritten(self) -> bool:
        """One look; False when all has ended."""
        if not self._tickets.is_written:
            self._end()
            return False
        return True

    def _end(self) -> None:
        try:
            if self._holder.is_held:
                self._unregister()
        finally:
            self._holder.close()

    @property
    def _is_open(self) -> bool:
        """Not in a process that was forked from the client's: what it says is not the holder's."""
        return self._holder.is_held and not self._maps.closed

    def _require_open(self) -> None:
        if not self._is_open:
            raise StoreUnavailableError("the store's client is closed")


def _taken_tickets(tickets: Sequence[Ticket]) -> tuple[Ticket, ...]:
    if isinstance(tickets, str | bytes) or not isinstance(tickets, Sequence):
        raise refused("tickets", tickets, "a sequence of tickets")
    taken = tuple(tickets)
    for i, ticket in enumerate(taken):
        if type(ticket) is not Ticket:
            raise refused(f"tickets[{i}]", ticket, "a ticket that acquire has given")
    return taken
