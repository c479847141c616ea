"""The contract between whoever computes KV and the store, in this process or behind an actor."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from kvstore.types import (
    Acquired,
    Extent,
    LeaseId,
    Path,
    SegmentKey,
    StoreStats,
    Ticket,
    TierName,
)


class StoreClient(Protocol):
    """What engines hold. One process is one holder: when it ends, its leases and tickets end.

    Thread-safe. Every method raises StoreUnavailableError when the store cannot be reached and
    DeadlineError when `deadline_s` (seconds from now) passes; callers then compute for themselves.
    An argument that no caller may hand in raises ValueError by its name, and nothing has changed.
    """

    def acquire(
        self,
        paths: Sequence[Path],
        deadline_s: float,
        streamed: bool = False,
        claim: bool = True,
    ) -> Acquired:
        """Match, pin and claim all paths in one call; SSD hits are in the arena on return.

        `streamed`: hits may be `arriving`, to be used a layer at a time after `await_layer`.
        Without `claim`, what is missing stays missing: neither tickets nor waiters.
        """
        ...

    def await_layer(
        self,
        acquired: Acquired,
        extents: Collection[Extent],
        layer: int,
        deadline_s: float,
        stall_s: float = math.inf,
    ) -> bool:
        """Return when this layer of every extent is verified and in place: True. False when one
        never will be, because its read failed or hangs or the store is gone, when the time is up,
        or when no layer of any of them has come for `stall_s` (noticed by twice that). A layer that
        was in place is so while `unchanged` holds.

        Does not call the store: cheap enough before every layer. `layer` may be the number of
        layers: True when the segments are whole, and pinned.
        """
        ...

    def view(self, acquired: Acquired, extent: Extent) -> memoryview:
        """The extent's bytes, without a copy. Writable by type (torch warns otherwise): do not
        write."""
        ...

    def writable(self, acquired: Acquired, ticket: Ticket) -> memoryview:
        """The bytes of a ticket's extent, shared with the store, to be written before `commit`.

        Raises StoreUnavailableError for a ticket that is over: committed, given back, or its lease
        has ended or was trimmed. Who still holds the bytes by then must not write any more.
        """
        ...

    def unchanged(self, acquired: Acquired, extents: Collection[Extent]) -> bool:
        """Whether every extent still has its generation: ask after the last use of a view."""
        ...

    def commit(self, acquired: Acquired, tickets: Sequence[Ticket]) -> None:
        """Checksum what was written and publish it, all of the tickets or none; it stays pinned
        under the lease."""
        ...

    def abort(self, acquired: Acquired, tickets: Sequence[Ticket]) -> None:
        """Give tickets back: the next to ask computes."""
        ...

    def wait(self, keys: Collection[SegmentKey], deadline_s: float) -> None:
        """Return when none of the keys is being computed any more, whatever came of it."""
        ...

    def release(self, lease_id: LeaseId) -> None:
        """Unpin everything under the lease; open tickets under it are aborted. Another holder's
        lease stays as it is. Idempotent."""
        ...

    def trim(
        self, kept: Mapping[LeaseId, Collection[SegmentKey]], used: Sequence[SegmentKey] = ()
    ) -> None:
        """Unpin all but these keys under each lease and abort its open tickets; a lease of which
        nothing is kept ends. Idempotent; a lease that is gone is passed over.

        `used` were read without asking since the last call, leaf first: eviction is to know.
        """
        ...

    def announce(self, request_id: str, paths: Sequence[Path], deadline_s: float) -> None:
        """Tell the pending window what a queued request will need, most urgent first."""
        ...

    def retire(self, request_id: str) -> None:
        """The request was served or cancelled: its window entries go."""
        ...

    def locate(self, keys: Collection[SegmentKey]) -> Mapping[SegmentKey, TierName]:
        """The fastest tier that is known to have each, at this moment; those that none has are
        left out. Counts as no use."""
        ...

    def remove_tags(self, tags: Collection[bytes]) -> int:
        """Remove every segment of these passages, and all that follows them; how many.

        Pinned ones are out of sight at once, their bytes go when the last pin does.
        """
        ...

    def stats(self) -> StoreStats: ...
