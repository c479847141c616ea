"""The store client of a replica: its own node's arena, and behind it the shards of all others.

Everything an engine sees lies in the arena of its own node. What another node owns is fetched into
it (a copy, in DRAM alone), and what this node computes for another is delivered beside the
requests. With one node, or without a directory, this is the node's own client and nothing else.
"""

import math
import threading
import time
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import TypeVar

from actors import placing
from actors.deliveries import Deliveries
from actors.fetching import Fetcher, Haul
from actors.membership_view import MembershipView
from actors.peers import Peers
from actors.remote_claims import RemoteClaims
from actors.removing import Removing
from actors.shard_names import NAMESPACE
from actors.sources import runs, sources
from actors.stays import Guest
from actors.store_client import RayStoreClient
from kvstore import arguments
from kvstore.config import StoreConfig
from kvstore.errors import KVStoreError
from kvstore.membership import Membership
from kvstore.supervised import Supervisor
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

T = TypeVar("T")

_CLOSE_TIMEOUT_S = 10.0
_GRACE_S = 1.0
"""A shard keeps the deadline itself; this much later its call counts as lost."""
_PLACING_SHARE = 0.25
"""Of the time that an `acquire` has left: for what is done here with what other nodes gave."""
_LOCATE_TIMEOUT_S = 0.5
_REMEMBERED = 4_096
"""Requests of which is known who was told, and segments of which is known who computes them."""


class ClusterStoreClient:
    """A StoreClient. For engine threads: never call it from an event loop."""

    def __init__(self, config: StoreConfig, namespace: str = NAMESPACE) -> None:
        """Starts the node's shard if there is none; raises StoreConfigError when it cannot."""
        self._local = RayStoreClient(config, namespace)
        self._remove_timeout_s = config.remove_timeout_s + _GRACE_S
        self._view = MembershipView(namespace)
        self._node_id = self._view.node_id
        self._peers = Peers(namespace)
        self._guest = Guest(self._node_id, self._local.holder_id)
        self._fetcher = Fetcher(self._peers, self._guest, config.hedge_s, config.remote_timeout_s)
        self.threads = Supervisor()
        """Beside those of the caller."""
        waiting = config.write_queue
        self._deliveries = Deliveries(self._local, self._peers, waiting, self.threads)
        self._lock = threading.Lock()
        self._claims = RemoteClaims()
        self._computed_at: dict[SegmentKey, str] = {}
        self._told: dict[str, list[str]] = {}

    def acquire(
        self,
        paths: Sequence[Path],
        deadline_s: float,
        streamed: bool = False,
        claim: bool = True,
    ) -> Acquired:
        arguments.require_seconds("deadline_s", deadline_s)
        give_up = time.monotonic() + deadline_s
        membership = self._view.current()
        acquired = self._local.acquire(paths, deadline_s, streamed, claim)
        tails = self._tails(paths, acquired, membership)
        asked = sources(tails, membership, self._node_id)
        if not asked:
            return acquired
        left = max(0.0, give_up - time.monotonic())
        haul = self._fetcher.fetch(asked, give_up - left * _PLACING_SHARE, claim)
        self._claims.put(acquired.lease_id, haul.claims)
        with self._local.until(give_up + _GRACE_S):
            try:
                return self._with_haul(acquired, paths, tails, haul, give_up, streamed, claim)
            except KVStoreError:
                self._let_go(acquired.lease_id)
                raise

    def await_layer(
        self,
        acquired: Acquired,
        extents: Collection[Extent],
        layer: int,
        deadline_s: float,
        stall_s: float = math.inf,
    ) -> bool:
        return self._local.await_layer(acquired, extents, layer, deadline_s, stall_s)

    def view(self, acquired: Acquired, extent: Extent) -> memoryview:
        return self._local.view(acquired, extent)

    def writable(self, acquired: Acquired, ticket: Ticket) -> memoryview:
        return self._local.writable(acquired, ticket)

    def unchanged(self, acquired: Acquired, extents: Collection[Extent]) -> bool:
        return self._local.unchanged(acquired, extents)

    def commit(self, acquired: Acquired, tickets: Sequence[Ticket]) -> None:
        """Here at once, and for its owners as soon as it has got there."""
        self._local.commit(acquired, tickets)
        membership = self._view.current()
        for ticket in tickets:
            targets = self._targets(acquired.lease_id, ticket.spec.key, membership)
            if targets:
                self._deliveries.put(acquired, ticket, targets)

    def abort(self, acquired: Acquired, tickets: Sequence[Ticket]) -> None:
        self._local.abort(acquired, tickets)

    def wait(self, keys: Collection[SegmentKey], deadline_s: float) -> None:
        keys = arguments.taken_keys("keys", keys)
        arguments.require_seconds("deadline_s", deadline_s)
        give_up = time.monotonic() + deadline_s
        elsewhere = defaultdict[str, list[SegmentKey]](list)
        with self._lock:
            for key in keys:
                if node := self._computed_at.pop(key, None):
                    elsewhere[node].append(key)
        asked = {node: (self._guest, own, deadline_s) for node, own in elsewhere.items()}
        calls = self._peers.start(asked, "wait_for_guest")
        self._local.wait(keys, deadline_s)
        self._peers.await_all(calls, max(0.0, give_up - time.monotonic()))

    def release(self, lease_id: LeaseId) -> None:
        """What is on its way to other nodes stays pinned until it got there."""
        arguments.require_id("lease_id", lease_id)
        self._leave([lease_id])
        protected = self._deliveries.protect({lease_id: ()})
        if protected[lease_id]:
            self._local.trim(protected)
        else:
            self._local.release(lease_id)

    def trim(
        self, kept: Mapping[LeaseId, Collection[SegmentKey]], used: Sequence[SegmentKey] = ()
    ) -> None:
        """What is on its way to other nodes stays pinned until it got there."""
        taken = arguments.taken_kept("kept", kept)
        used = arguments.taken_keys("used", used)
        self._leave(taken)
        self._local.trim(self._deliveries.protect(taken), used)

    def announce(self, request_id: str, paths: Sequence[Path], deadline_s: float) -> None:
        """To this node, and to the first owner of each run of every chain."""
        self._local.announce(request_id, paths, deadline_s)
        all_runs = [run for path in paths for run in runs(path)]
        owned = self._elsewhere([(run[-1].key.placement, run) for run in all_runs])
        for node, own in owned.items():
            keys = list(dict.fromkeys(spec.key for path in own for spec in path))
            self._peers.call(node, "announce", request_id, own[0][0].tenant, keys, deadline_s)
        with self._lock:
            if owned and len(self._told) < _REMEMBERED:
                self._told[request_id] = list(owned)

    def retire(self, request_id: str) -> None:
        with self._lock:
            told = self._told.pop(request_id, ())
        for node in told:
            self._peers.call(node, "retire", request_id)
        self._local.retire(request_id)

    def locate(self, keys: Collection[SegmentKey]) -> Mapping[SegmentKey, TierName]:
        found = dict(self._local.locate(keys))
        owned = self._elsewhere([(key.placement, key) for key in keys if key not in found])
        calls = self._peers.start({node: (own,) for node, own in owned.items()}, "locate")
        for elsewhere in self._peers.gather(calls, _LOCATE_TIMEOUT_S).values():
            found |= dict.fromkeys(elsewhere, "peer")
        return found

    def remove_tags(self, tags: Collection[bytes]) -> int:
        """On every node. Raises RemovalError for those that cannot be reached or failed, and where
        the directory does not say which there are: they may have what was removed."""
        tags = arguments.taken_tags("tags", tags)
        removing = Removing(self._peers, self._view, tags, self._remove_timeout_s)
        return removing.run(lambda removal: self._local.remove_tags(tags, removal))

    def stats(self) -> StoreStats:
        """Of this node's shard."""
        return self._local.stats()

    def await_membership(self, timeout_s: float) -> int:
        """How many nodes share the store, by an answer of the directory asked for now."""
        arguments.require_seconds("timeout_s", timeout_s)
        return len(self._view.settle(timeout_s).members)

    def flush(self, timeout_s: float) -> bool:
        """Whether what was computed for other nodes has got there, or was given up, in time."""
        arguments.require_seconds("timeout_s", timeout_s)
        return self._deliveries.flush(timeout_s)

    def close(self) -> None:
        self._deliveries.close(_CLOSE_TIMEOUT_S)
        self._local.close()

    def _let_go(self, lease_id: LeaseId) -> None:
        """A shard that does not answer has been told."""
        with suppress(KVStoreError):
            self.release(lease_id)

    def _elsewhere(self, placed_at: Sequence[tuple[bytes, T]]) -> dict[str, list[T]]:
        """By the first owner of each placement, as far as that is another node."""
        membership = self._view.current()
        owned = defaultdict[str, list[T]](list)
        all_owners = membership.all_owners([placement for placement, _ in placed_at])
        for owners, (_, thing) in zip(all_owners, placed_at, strict=True):
            for first in owners[:1]:
                owned[first].append(thing)
        owned.pop(self._node_id, None)
        return owned

    def _remember_waiters(self, acquired: Acquired, haul: Haul) -> None:
        with self._lock:
            if len(self._computed_at) > _REMEMBERED:  # of requests that did not come back to wait
                self._computed_at.clear()
            awaited = acquired.waiters & haul.waiters.keys()
            self._computed_at |= {key: haul.waiters[key] for key in awaited}

    def _tails(
        self, paths: Sequence[Path], acquired: Acquired, membership: Membership
    ) -> list[Path]:
        """What is missing here of each chain, and another node may have, or may be computing."""
        if len(membership.members) == 1:
            return []
        tails = (placing.tail_of(path, acquired) for path in paths)
        return list(dict.fromkeys(tail for tail in tails if tail))

    def _with_haul(
        self,
        acquired: Acquired,
        paths: Sequence[Path],
        tails: Sequence[Path],
        haul: Haul,
        give_up: float,
        streamed: bool,
        claim: bool,
    ) -> Acquired:
        """Joins what was acquired here with what came from other nodes."""
        heads = placing.found_heads(tails, haul)
        if not claim and not heads:
            return acquired
        if not claim:
            again = placing.copied(self._local, paths, heads, haul, give_up, streamed)
            self._let_go(acquired.lease_id)
            return again
        acquired = placing.placed(self._local, acquired, heads, haul)
        if placing.closes_holes(acquired, tails):
            acquired = self._matched_again(acquired, paths, give_up, streamed)
        try:
            acquired = placing.await_elsewhere(self._local, acquired, tails, haul)
        except KVStoreError:
            self._let_go(acquired.lease_id)
            raise
        self._remember_waiters(acquired, haul)
        return acquired

    def _matched_again(
        self, acquired: Acquired, paths: Sequence[Path], give_up: float, streamed: bool
    ) -> Acquired:
        """Matches again; claims on other nodes go over to the new lease."""
        old = acquired.lease_id
        again = placing.matched_again(self._local, acquired, paths, give_up, streamed)
        self._claims.move(old, again.lease_id)
        self._let_go(old)
        return again

    def _targets(
        self, lease_id: LeaseId, key: SegmentKey, membership: Membership
    ) -> dict[str, LeaseId | None]:
        """Nodes that are to have what was computed here; with the lease it is claimed under."""
        targets: dict[str, LeaseId | None] = dict.fromkeys(membership.owners(key.placement))
        targets |= self._claims.of(lease_id, key)
        targets.pop(self._node_id, None)
        return targets

    def _leave(self, lease_ids: Collection[LeaseId]) -> None:
        for stay in self._claims.take(lease_ids):
            self._deliveries.leave(*stay)
