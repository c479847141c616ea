"""The store client of a Ray worker: one actor call per operation, bytes through the mapped
arena."""

import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import ray
from ray import ObjectRef

from actors.shard_link import ShardLink
from actors.shard_names import NAMESPACE
from kvstore.config import StoreConfig
from kvstore.errors import DeadlineError, KVStoreError, StoreUnavailableError
from kvstore.mapping import MappedClient
from kvstore.types import (
    Acquired,
    LeaseId,
    Lineage,
    Path,
    SegmentKey,
    StoreStats,
    TicketId,
    TierName,
)

_CALL_TIMEOUT_S = 10.0
_GRACE_S = 1.0
"""The shard keeps the deadline itself; this much later the call counts as lost."""


class RayStoreClient(MappedClient):
    """A StoreClient over the node's KVShard. For engine threads: never call it from an event loop.

    After a restart of the shard the next `acquire` finds the new arena; leases from before are
    gone, bytes read from the old arena stay right. A shard that is dead for good is started anew
    by `acquire`, and by no other call: what ends something needs no store.
    """

    def __init__(self, config: StoreConfig, namespace: str = NAMESPACE) -> None:
        """Starts the node's shard if there is none; raises StoreConfigError when it cannot."""
        self._link = ShardLink(config, namespace)
        self._remove_timeout_s = config.remove_timeout_s + _GRACE_S
        super().__init__(config.dram_dir)
        self._bound = threading.local()
        self._late_lock = threading.Lock()
        self._late: list[ObjectRef] = []  # acquires that their caller no longer waited for

    @contextmanager
    def until(self, give_up: float) -> Iterator[None]:
        """Calls of this thread wait no longer in this block; what they ask for is asked for."""
        self._bound.give_up = give_up
        try:
            yield
        finally:
            del self._bound.give_up

    def _acquire(
        self, paths: Sequence[Path], deadline_s: float, streamed: bool, claim: bool
    ) -> Acquired:
        self._release_late()
        shard = self._link.living()
        call = shard.acquire.remote(paths, self.holder_id, deadline_s, streamed, claim)
        try:
            acquired: Acquired = self._link.result(shard, call, deadline_s + _GRACE_S)
        except DeadlineError:
            with self._late_lock:
                self._late.append(call)
            raise
        return acquired

    def _commit(
        self,
        ticket_ids: list[TicketId],
        crcs: list[tuple[int, ...]],
        lineages: list[Lineage | None],
    ) -> None:
        self._ask("commit", ticket_ids, crcs, self.holder_id, lineages)

    def _abort(self, ticket_ids: list[TicketId]) -> None:
        self._ask("abort", ticket_ids, self.holder_id)

    def _release(self, lease_id: LeaseId) -> None:
        self._ask("release", lease_id, self.holder_id)

    def _trim(
        self, kept: Mapping[LeaseId, Collection[SegmentKey]], used: Sequence[SegmentKey]
    ) -> None:
        self._ask("trim", dict(kept), self.holder_id, list(used))

    def _announce(
        self, request_id: str, tenant: bytes, keys: list[SegmentKey], deadline_s: float
    ) -> None:
        self._ask("announce", request_id, tenant, keys, deadline_s)

    def _unregister(self) -> None:
        with suppress(StoreUnavailableError, DeadlineError):  # the lock file says it as well
            self._ask("unregister", self.holder_id)

    def _wait(self, keys: Collection[SegmentKey], deadline_s: float) -> None:
        self._ask("wait", self.holder_id, list(keys), deadline_s, timeout_s=deadline_s + _GRACE_S)

    def _retire(self, request_id: str) -> None:
        self._ask("retire", request_id)

    def _locate(self, keys: Collection[SegmentKey]) -> Mapping[SegmentKey, TierName]:
        found: Mapping[SegmentKey, TierName] = self._ask("locate", list(keys))
        return found

    def _remove_tags(self, tags: Collection[bytes], removal: bytes) -> int:
        removed: int = self._ask(
            "remove_tags", list(tags), removal, timeout_s=self._remove_timeout_s
        )
        return removed

    def _stats(self) -> StoreStats:
        stats: StoreStats = self._ask("stats")
        return stats

    def _lineages(self, keys: Collection[SegmentKey]) -> dict[SegmentKey, Lineage]:
        found: dict[SegmentKey, Lineage] = self._ask("lineages", list(keys))
        return found

    def _checksums(self, keys: Collection[SegmentKey]) -> dict[SegmentKey, tuple[int, ...]]:
        crcs: dict[SegmentKey, tuple[int, ...]] = self._ask("checksums", list(keys))
        return crcs

    def _ask(self, method: str, *args: object, timeout_s: float = _CALL_TIMEOUT_S) -> Any:
        shard, give_up = self._link.handle, getattr(self._bound, "give_up", None)
        if give_up is not None:
            timeout_s = min(timeout_s, max(0.0, give_up - time.monotonic()))
        return self._link.result(shard, getattr(shard, method).remote(*args), timeout_s)

    def _release_late(self) -> None:
        """Leases that arrived after their caller had left would stay pinned for this process's
        life."""
        with self._late_lock:
            if not self._late:
                return
            arrived, self._late = ray.wait(self._late, num_returns=len(self._late), timeout=0)
        shard = self._link.handle
        for call in arrived:
            try:
                acquired: Acquired = self._link.result(shard, call, _CALL_TIMEOUT_S)
            except KVStoreError:  # nothing was acquired
                continue
            shard.release.remote(acquired.lease_id, self.holder_id)
