"""KVShard: the store of one Ray node, behind a detached actor that Ray restarts when it is
killed."""

import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import ActorDiedError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from kvstore.config import StoreConfig
from kvstore.errors import StoreConfigError
from kvstore.store import KVStore
from kvstore.types import (
    Acquired,
    ArenaRef,
    CheckReport,
    HolderId,
    LeaseId,
    Path,
    SegmentKey,
    StoreStats,
    TicketId,
    TierName,
)

NAMESPACE = "hyperrag"
_START_TIMEOUT_S = 120.0

_GROUPS = {"acquire": 16, "wait": 64}
"""Threads of calls that may block, apart from the rest: neither a slow disk nor many waiters keep
`commit` and `release` from running. What exceeds them queues, under its caller's deadline."""
_NUM_THREADS = 8


class KVShardShell:
    """Forwards to one KVStore. A restart makes a new arena and recovers what the SSD has."""

    def __init__(self, config: StoreConfig, node: str) -> None:
        self._store = KVStore(config, node)

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

    def commit(self, ticket_ids: Sequence[TicketId], crcs: Sequence[Sequence[int]]) -> None:
        self._store.commit(ticket_ids, crcs)

    def abort(self, ticket_ids: Collection[TicketId]) -> None:
        self._store.abort(ticket_ids)

    def release(self, lease_id: LeaseId) -> None:
        self._store.release(lease_id)

    def trim(
        self, kept: Mapping[LeaseId, Collection[SegmentKey]], used: Sequence[SegmentKey]
    ) -> None:
        self._store.trim(kept, used)

    @ray.method(concurrency_group="wait")  # type: ignore[untyped-decorator]  # Ray has no types
    def wait(self, keys: Collection[SegmentKey], deadline_s: float) -> None:
        self._store.wait(keys, deadline_s)

    def announce(self, request_id: str, keys: Sequence[SegmentKey], deadline_s: float) -> None:
        self._store.announce(request_id, keys, deadline_s)

    def retire(self, request_id: str) -> None:
        self._store.retire(request_id)

    def locate(self, keys: Collection[SegmentKey]) -> dict[SegmentKey, TierName]:
        return self._store.locate(keys)

    def remove_tags(self, tags: Collection[bytes]) -> int:
        return self._store.remove_tags(tags)

    def stats(self) -> StoreStats:
        return self._store.stats()

    def check(self, repair: bool) -> CheckReport:
        return self._store.check(repair)

    def flush(self, timeout_s: float) -> bool:
        return self._store.flush(timeout_s)

    def process_id(self) -> int:
        return os.getpid()

    def close(self, timeout_s: float) -> None:
        self._store.close(timeout_s)


KVShard = ray.remote(concurrency_groups=_GROUPS)(KVShardShell)


def shard_name(node_id: str) -> str:
    return f"hyperrag-kvshard-{node_id}"


def ensure_shard(config: StoreConfig, namespace: str = NAMESPACE) -> Any:
    """Handle of the calling node's shard, which is started with `config` if there is none.

    Raises StoreConfigError when it cannot start on this machine.
    """
    node_id = ray.get_runtime_context().get_node_id()
    handle = KVShard.options(
        name=shard_name(node_id),
        namespace=namespace,
        get_if_exists=True,
        lifetime="detached",
        max_restarts=-1,
        max_concurrency=_NUM_THREADS,
        num_cpus=0,
        scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False),
    ).remote(config, node_id)
    try:
        ray.get(handle.stats.remote(), timeout=_START_TIMEOUT_S)
    except ActorDiedError as error:
        raise StoreConfigError(f"the store of node {node_id} did not start: {error}") from error
    return handle


def stop_shard(handle: Any, timeout_s: float = 30.0) -> None:
    """Write what is queued, give the arena's memory back, end the actor."""
    try:
        ray.get(handle.close.remote(timeout_s), timeout=timeout_s + 5.0)
    finally:
        ray.kill(handle, no_restart=True)
