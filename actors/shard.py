"""KVShard: the store of one Ray node, behind a detached actor that Ray restarts when it is
killed."""

import os
import threading
import time
from collections.abc import Collection, Mapping, Sequence

import ray

from actors.guests import Fetched, Guests, TakenOver
from actors.moving import Mover
from actors.node_removals import NodeRemovals
from actors.parcels import Parcel
from actors.peers import Peers
from actors.removal_log import Kept, Removals
from actors.shard_groups import GROUPS, WAITS_EACH
from actors.shard_names import NAMESPACE
from actors.shard_report import ShardReport
from actors.stays import Guest
from actors.turns import Turns
from actors.watching import Watch
from kvstore.config import StoreConfig
from kvstore.garbage import freeze_survivors, join_freed_blocks
from kvstore.holders import lives
from kvstore.membership import Membership
from kvstore.ownership import Ownership
from kvstore.store import KVStore
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


class KVShardShell:
    """Forwards to one KVStore. A restart makes a new arena and recovers what the SSD has."""

    def __init__(self, config: StoreConfig, node: str, namespace: str = NAMESPACE) -> None:
        freeze_survivors()
        join_freed_blocks()
        self._node = node
        self._store = KVStore(config, node)
        self._guests = Guests(self._store, config)
        self._removals = NodeRemovals(self._store, config)
        self._peers, rate = Peers(namespace), config.rebalance_bytes_per_s
        self._mover = Mover(node, self._store, self._guests, self._peers, rate)
        self._following = threading.Lock()
        self._waits, self._guest_waits = Turns(WAITS_EACH), Turns(WAITS_EACH)
        self._membership = Membership(0, ())
        interval_s = config.reap_interval_s
        self._watch = Watch(node, self._store, self._guests, self._peers, interval_s)
        self._config = config

    def register(self, holder: HolderId) -> ArenaRef:
        return self._store.register(holder)

    def unregister(self, holder: HolderId) -> None:
        self._store.unregister(holder)

    @ray.method(concurrency_group="acquire")  # type: ignore[untyped-decorator]  # Ray has no types
    def acquire(
        self,
        paths: Sequence[Path],
        holder: HolderId,
        deadline_s: float,
        streamed: bool,
        claim: bool,
    ) -> Acquired:
        return self._store.acquire(paths, holder, deadline_s, streamed, claim)

    def commit(
        self,
        ticket_ids: Sequence[TicketId],
        crcs: Sequence[Sequence[int]],
        holder: HolderId,
        lineages: Sequence[Lineage | None],
    ) -> None:
        self._store.commit(ticket_ids, crcs, holder, lineages)

    def abort(self, ticket_ids: Collection[TicketId], holder: HolderId) -> None:
        self._store.abort(ticket_ids, holder)

    def release(self, lease_id: LeaseId, holder: HolderId) -> None:
        self._store.release(lease_id, holder)

    def trim(
        self,
        kept: Mapping[LeaseId, Collection[SegmentKey]],
        holder: HolderId,
        used: Sequence[SegmentKey],
    ) -> None:
        self._store.trim(kept, holder, used)

    def note_uses(self, keys: Sequence[SegmentKey]) -> None:
        self._store.note_uses(keys)

    @ray.method(concurrency_group="wait")  # type: ignore[untyped-decorator]  # Ray has no types
    def wait(self, holder: HolderId, keys: Collection[SegmentKey], deadline_s: float) -> None:
        with self._waits.of(holder):
            self._store.wait(keys, deadline_s)

    @ray.method(concurrency_group="guest_waits")  # type: ignore[untyped-decorator]  # Ray has no types
    def wait_for_guest(self, guest: Guest, keys: Collection[SegmentKey], deadline_s: float) -> None:
        with self._guest_waits.of(guest.node_id):
            self._store.wait(keys, deadline_s)

    def announce(
        self, request_id: str, tenant: bytes, keys: Sequence[SegmentKey], deadline_s: float
    ) -> None:
        self._store.announce(request_id, tenant, keys, deadline_s)

    def retire(self, request_id: str) -> None:
        self._store.retire(request_id)

    def locate(self, keys: Collection[SegmentKey]) -> dict[SegmentKey, TierName]:
        return self._store.locate(keys)

    @ray.method(concurrency_group="removals")  # type: ignore[untyped-decorator]  # Ray has no types
    def remove_tags(self, tags: Collection[bytes], removal: bytes) -> int:
        return self._removals.remove_tags(tags, removal)

    @ray.method(concurrency_group="control")  # type: ignore[untyped-decorator]  # Ray has no types
    def removals(self) -> Kept | None:
        """Those that this node knows of. See NodeRemovals."""
        return self._removals.known()

    @ray.method(concurrency_group="removals")  # type: ignore[untyped-decorator]  # Ray has no types
    def learn_removals(self, removals: Removals) -> bool:
        """What this node missed of these; whether it has made them. See NodeRemovals."""
        return self._removals.learn(removals)

    def lineages(self, keys: Collection[SegmentKey]) -> dict[SegmentKey, Lineage]:
        return self._store.lineages(keys)

    def checksums(self, keys: Collection[SegmentKey]) -> dict[SegmentKey, tuple[int, ...]]:
        return self._store.checksums(keys)

    @ray.method(concurrency_group="fetches")  # type: ignore[untyped-decorator]  # Ray has no types
    def fetch(
        self, guest: Guest, paths: Sequence[Path], deadline_s: float, claim: bool, max_bytes: int
    ) -> Fetched:
        return self._guests.fetch(guest, paths, deadline_s, claim, max_bytes)

    @ray.method(concurrency_group="transfers")  # type: ignore[untyped-decorator]  # Ray has no types
    def read(self, lease_id: LeaseId, keys: Collection[SegmentKey]) -> tuple[Parcel, ...]:
        return self._guests.read(lease_id, keys)

    @ray.method(concurrency_group="transfers")  # type: ignore[untyped-decorator]  # Ray has no types
    def deliver(self, lease_id: LeaseId | None, parcels: Sequence[Parcel]) -> int:
        return self._guests.deliver(lease_id, parcels)

    @ray.method(concurrency_group="moves")  # type: ignore[untyped-decorator]  # Ray has no types
    def kept(self, keys: Collection[SegmentKey]) -> set[SegmentKey]:
        return self._store.kept(keys)

    @ray.method(concurrency_group="moves")  # type: ignore[untyped-decorator]  # Ray has no types
    def take_over(self, parcels: Sequence[Parcel]) -> TakenOver:
        return self._guests.take_over(parcels)

    def leave(self, lease_id: LeaseId) -> None:
        self._guests.leave(lease_id)

    @ray.method(concurrency_group="control")  # type: ignore[untyped-decorator]  # Ray has no types
    def living(self, holders: Collection[HolderId]) -> set[HolderId]:
        """Which of these are processes of this node."""
        return {holder for holder in holders if lives(self._config.dram_dir, holder)}

    @ray.method(concurrency_group="control")  # type: ignore[untyped-decorator]  # Ray has no types
    def follow(self, membership: Membership) -> ShardReport:
        """Own what this membership says, if it is the latest; and how things stand."""
        if membership.epoch > self._membership.epoch:
            with self._following:  # or an older one could have the last word
                if membership.epoch > self._membership.epoch:
                    self._membership = membership
                    self._obey(membership)
        self._removals.followed(self._node in membership.node_ids)
        return self._report()

    def _obey(self, membership: Membership) -> None:
        self._store.own(Ownership(membership, self._node))
        self._mover.follow(membership)
        self._watch.follow(membership)

    @ray.method(concurrency_group="control")  # type: ignore[untyped-decorator]  # Ray has no types
    def report(self) -> ShardReport:
        return self._report()

    def _report(self) -> ShardReport:
        """Takes no lock of the store: however busy it is, the node is not lost."""
        return ShardReport(
            self._membership.epoch,
            self._mover.done_epoch,
            self._store.capacity_bytes,
            self._mover.moved_bytes,
            self._mover.moved_segments,
            len(self._guests),
            self._guests.sent_bytes,
            self._guests.received_bytes,
            sum(self._mover.waiting.values()),
            dict(self._mover.waiting),
            self._mover.num_unplaced,
            self._removals.is_told,
            tuple(self._store.threads.gone()),
        )

    @ray.method(concurrency_group="control")  # type: ignore[untyped-decorator]  # Ray has no types
    def membership(self) -> Membership:
        """The latest that was followed: what a directory that restarts goes on from."""
        return self._membership

    def stats(self) -> StoreStats:
        return self._store.stats()

    @ray.method(concurrency_group="upkeep")  # type: ignore[untyped-decorator]  # Ray has no types
    def check(self, repair: bool) -> CheckReport:
        return self._store.check(repair)

    @ray.method(concurrency_group="upkeep")  # type: ignore[untyped-decorator]  # Ray has no types
    def holdings(self) -> list[SegmentSpec]:
        return self._store.holdings()

    @ray.method(concurrency_group="upkeep")  # type: ignore[untyped-decorator]  # Ray has no types
    def flush(self, timeout_s: float) -> bool:
        return self._store.flush(timeout_s)

    @ray.method(concurrency_group="control")  # type: ignore[untyped-decorator]  # Ray has no types
    def process_id(self) -> int:
        return os.getpid()

    @ray.method(concurrency_group="control")  # type: ignore[untyped-decorator]  # Ray has no types
    def close(self, timeout_s: float) -> None:
        """All of it in that time: the store has a quarter of it at least."""
        give_up = time.monotonic() + timeout_s
        self._watch.close()
        self._mover.close(timeout_s / 4)
        self._guests.close(timeout_s / 4)
        self._removals.close(timeout_s / 4)
        self._store.close(max(0.0, give_up - time.monotonic()))


KVShard = ray.remote(concurrency_groups=GROUPS)(KVShardShell)
