"""One shard of the store: DRAM arena and SSD of a node, what is in them, and who may use it."""

import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence

from kvstore import arguments
from kvstore.acquisition import Acquisitions
from kvstore.audit import Audit
from kvstore.books import Books
from kvstore.closing import Worker, close
from kvstore.commits import Commits
from kvstore.config import StoreConfig
from kvstore.copies import Owns
from kvstore.figures import capacity_bytes, stats
from kvstore.loads import Loads
from kvstore.lookup import checksums, lineages, locate, wait
from kvstore.ownership import holdings, kept, let_go, own
from kvstore.prefetch import Prefetcher
from kvstore.reaping import end_holder, reaping
from kvstore.releasing import abort, note_uses, release, trim
from kvstore.remembering import create_remembering
from kvstore.removal import Removal
from kvstore.scrub import Scrubber
from kvstore.supervised import Supervisor
from kvstore.types import (
    Acquired,
    ArenaRef,
    CheckReport,
    HolderId,
    LeaseId,
    Lineage,
    Path,
    SegmentKey,
    SegmentSpec,
    StoreStats,
    TicketId,
    TierName,
)
from kvstore.writeback import WriteBehind


class KVStore:
    """Thread-safe. Arguments are looked at first: what is wrong raises ValueError, and nothing has
    changed. Once the store is closed `unregister`, `close` and `take_uses_of_copies` do nothing,
    every other method raises StoreUnavailableError.

    Bytes never pass through here: callers map the arena, read hits and fill tickets in place.
    """

    def __init__(self, config: StoreConfig, node: str) -> None:
        """Takes the arena's memory and the SSD folder with what it holds; raises
        StoreConfigError."""
        self._config = config
        self._books = Books(config, node)
        self._loads = Loads(self._books, config.read_timeout_s)
        self._acquisitions = Acquisitions(self._books, self._loads, config.verify_dram)
        self._commits = Commits(self._books)
        self._prefetcher = Prefetcher(self._books, self._loads, config.prefetch)
        self._scrubber = Scrubber(self._books, config.scrub_bytes_per_s)
        self._memory = create_remembering(self._books)
        self._audit = Audit(self._books, self._loads, config.read_timeout_s)
        self._writes = [WriteBehind(self._books, it, self._memory) for it in self._books.levels]
        self._removal = Removal(self._books, self._loads, config.remove_timeout_s)
        self._closing = False
        reap = reaping(self._books, self._loads)
        self._reaper = self.threads.every(config.reap_interval_s, "kvstore-reap", *reap)

    @property
    def threads(self) -> Supervisor:
        """All that work for this store; its owner may add its own."""
        return self._books.threads

    def register(self, holder: HolderId) -> ArenaRef:
        """Know a process of this node by its lock file (`Holder`); what to map."""
        arguments.require_holder("holder", holder)
        with self._books.lock:
            self._books.require_open()
            self._books.holders.ensure(holder)
            return self._books.dram.arena

    def bound_claims(self, holder: HolderId, max_bytes: int) -> None:
        """What this holder claims reserves no more than this at a time; beyond it tickets come
        without an extent."""
        arguments.require_holder("holder", holder)
        arguments.require_bytes("max_bytes", max_bytes)
        with self._books.lock:
            self._books.require_open()
            self._books.holders.ensure(holder)
            self._books.claims.bound(holder, max_bytes)

    def withhold_while(self, reason: Callable[[], str]) -> None:
        """`acquire` raises StoreUnavailableError while this gives a reason."""
        arguments.require_callable("reason", reason)
        self._books.require_open()
        self._acquisitions.reason_to_withhold = reason

    def unregister(self, holder: HolderId) -> None:
        """The process is done: its leases and tickets end. Idempotent."""
        arguments.require_holder("holder", holder)
        end_holder(self._books, holder)

    def acquire(
        self,
        paths: Sequence[Path],
        holder: HolderId,
        deadline_s: float,
        streamed: bool = False,
        claim: bool = True,
    ) -> Acquired:
        """Match and pin, then claim in one moment; SSD hits are in the arena on return, of streamed
        ones the first layer at least.

        A read that is not done, or streamed has not begun, after `deadline_s` is left behind and
        its segment becomes a ticket: running late is no error here. Raises ValueError for paths
        that are not chains, or of more than `chains.MAX_SEGMENTS` segments together.
        """
        arguments.require_holder("holder", holder)
        arguments.require_seconds("deadline_s", deadline_s)
        arguments.require_flag("streamed", streamed)
        arguments.require_flag("claim", claim)
        give_up = time.monotonic() + deadline_s
        return self._acquisitions.acquire(paths, holder, give_up, streamed, claim)

    def commit(
        self,
        ticket_ids: Sequence[TicketId],
        crcs: Sequence[Sequence[int]],
        holder: HolderId,
        lineages: Sequence[Lineage | None] = (),
    ) -> None:
        """Verify what was written into the tickets' extents, layer by layer, and publish it.

        All of them stay pinned under their lease, published or not: a result that came too late, or
        whose passage was removed meanwhile, is only for its own caller. `lineages` of what came
        from other nodes say what may have been removed since it left them. Raises
        CorruptSegmentError when bytes and checksums differ (sound ones of the same call are
        published). Changes nothing where it raises StoreUnavailableError, because a ticket is not
        open here under this holder, or ValueError.
        """
        arguments.require_holder("holder", holder)
        self._commits.commit(ticket_ids, crcs, holder, lineages)

    def abort(self, ticket_ids: Collection[TicketId], holder: HolderId) -> None:
        """Nothing comes of these; nobody writes into their extents any more. Tickets of others, who
        may be writing, stay as they are. Idempotent."""
        taken = arguments.taken_ids("ticket_ids", ticket_ids)
        arguments.require_holder("holder", holder)
        abort(self._books, taken, holder)

    def release(self, lease_id: LeaseId, holder: HolderId) -> None:
        """Unpin everything under this holder's lease and abort its open tickets. Idempotent."""
        arguments.require_id("lease_id", lease_id)
        arguments.require_holder("holder", holder)
        release(self._books, lease_id, holder)

    def trim(
        self,
        kept: Mapping[LeaseId, Collection[SegmentKey]],
        holder: HolderId,
        used: Sequence[SegmentKey] = (),
    ) -> None:
        """Unpin all but these keys under each lease of this holder and abort its open tickets; a
        lease of which nothing is kept ends. Idempotent. `used`, leaf first, counts as a use of
        each."""
        kept_keys = arguments.taken_kept("kept", kept)
        arguments.require_holder("holder", holder)
        used_keys = arguments.taken_keys("used", used)
        trim(self._books, self._loads, kept_keys, holder)
        note_uses(self._books, used_keys)

    def note_uses(self, keys: Sequence[SegmentKey]) -> None:
        """They were read without asking, leaf first: eviction is to know."""
        keys = arguments.taken_keys("keys", keys)
        self._books.require_open()
        note_uses(self._books, keys)

    def wait(self, keys: Collection[SegmentKey], deadline_s: float) -> None:
        """Until none of the keys is being computed; raises DeadlineError."""
        keys = arguments.taken_keys("keys", keys)
        arguments.require_seconds("deadline_s", deadline_s)
        wait(self._books, keys, deadline_s)

    def announce(
        self, request_id: str, tenant: bytes, keys: Sequence[SegmentKey], deadline_s: float
    ) -> None:
        """What a tenant's queued request will need, most urgent first, for at most `deadline_s`."""
        arguments.require_name("request_id", request_id)
        arguments.require_tenant("tenant", tenant)
        keys = arguments.taken_keys("keys", keys)
        arguments.require_seconds("deadline_s", deadline_s)
        with self._books.lock:
            self._books.require_open()
            self._books.window.announce(request_id, tenant, keys, deadline_s)
            self._books.queue_changed.notify_all()

    def retire(self, request_id: str) -> None:
        """The request was served or cancelled. Idempotent."""
        arguments.require_name("request_id", request_id)
        with self._books.lock:
            self._books.require_open()
            self._books.window.retire(request_id)
            self._books.queue_changed.notify_all()

    def locate(self, keys: Collection[SegmentKey]) -> dict[SegmentKey, TierName]:
        """The fastest tier that is known to have each of the keys; counts as no use."""
        keys = arguments.taken_keys("keys", keys)
        self._books.require_open()
        return locate(self._books, keys)

    def remove_tags(self, tags: Collection[bytes], removal: bytes = b"") -> int:
        """Remove these passages' segments and all that follows them, from every tier; how many.

        Returns in `remove_timeout_s`: then it is done, or noted for a tier that hangs, fails or is
        still being listed. Raises RemovalError when neither was possible; all of it is out of
        sight then, but a restart may bring it back. `removal`: its id, where other nodes make it
        too: what left them before does not come back from them.
        """
        tags = arguments.taken_tags("tags", tags)
        arguments.require_removal("removal", removal)
        return self._removal.remove_tags(tags, removal or os.urandom(16))

    def checksums(self, keys: Collection[SegmentKey]) -> dict[SegmentKey, tuple[int, ...]]:
        """Of the layers of what is in DRAM, as it came there."""
        keys = arguments.taken_keys("keys", keys)
        self._books.require_open()
        return checksums(self._books, keys)

    def lineages(self, keys: Collection[SegmentKey]) -> dict[SegmentKey, Lineage]:
        """Of what is in DRAM, to travel with it: asked for before its checksums."""
        keys = arguments.taken_keys("keys", keys)
        self._books.require_open()
        return lineages(self._books, keys)

    def own(self, owns: Owns) -> None:
        """From now on these segments are this node's to keep; others are copies, in DRAM alone."""
        arguments.require_callable("owns", owns)
        self._books.require_open()
        own(self._books, owns)

    def take_uses_of_copies(self) -> list[SegmentKey]:
        """Since the last call, in their order: their owners were asked nothing, and know of them by
        what they are told."""
        with self._books.lock:
            return [] if self._books.closed else self._books.copies.take_uses()

    def holdings(self) -> list[SegmentSpec]:
        """All that DRAM and the tiers of this node alone are known to have."""
        return holdings(self._books)

    def kept(self, keys: Collection[SegmentKey]) -> set[SegmentKey]:
        """Of these what is this node's own and will stay, as far as eviction lets it."""
        keys = arguments.taken_keys("keys", keys)
        self._books.require_open()
        return kept(self._books, keys)

    def let_go(self, keys: Collection[SegmentKey]) -> None:
        """Another node has them: off this node's slow tiers. In DRAM they are copies."""
        keys = arguments.taken_keys("keys", keys)
        self._books.require_open()
        let_go(self._books, keys)

    @property
    def capacity_bytes(self) -> int:
        """Of DRAM and the SSD. Takes no lock."""
        return capacity_bytes(self._books)

    def stats(self) -> StoreStats:
        with self._books.lock:
            self._books.require_open()
            return stats(self._books)

    def check(self, repair: bool = False) -> CheckReport:
        """Balance the books and re-verify every checksum of all tiers; slow, safe at any time.
        A tier that gives nothing for `read_timeout_s` is left alone, and named as unchecked."""
        arguments.require_flag("repair", repair)
        return self._audit.run(repair)

    def flush(self, timeout_s: float) -> bool:
        """Whether everything published so far reached the slow tiers, or was given up, in time."""
        arguments.require_seconds("timeout_s", timeout_s)
        with self._books.lock:
            self._books.require_open()
        give_up = time.monotonic() + timeout_s
        return all(w.flush(max(0.0, give_up - time.monotonic())) for w in self._writes)

    def close(self, timeout_s: float = 10.0) -> None:
        """Write what is queued while time lasts, then give everything back, in `timeout_s` and half
        a second where something hangs. Idempotent.

        Views that clients hold stay valid; the file of the arena is gone.
        """
        arguments.require_seconds("timeout_s", timeout_s)
        if self._closing:
            return
        self._closing = True
        workers: list[Worker] = [self._prefetcher, self._scrubber, self._reaper, self._removal]
        workers += [self._loads] if self._memory is None else [self._loads, self._memory]
        close(self._books, self._writes, workers, timeout_s)
