"""The store client of a Ray worker: one actor call per operation, bytes through the mapped
arena."""

import threading
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

import ray
from ray import ObjectRef
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError

from actors.shard import ensure_shard
from actors.shard_names import NAMESPACE
from kvstore.config import StoreConfig
from kvstore.errors import DeadlineError, KVStoreError, StoreUnavailableError
from kvstore.mapping import MappedClient
from kvstore.types import (
    Acquired,
    LeaseId,
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
    gone, bytes read from the old arena stay right.
    """

    def __init__(self, config: StoreConfig, namespace: str = NAMESPACE) -> None:
        """Starts the node's shard if there is none; raises StoreConfigError when it cannot."""
        self._shard = ensure_shard(config, namespace)
        super().__init__(config.dram_dir)
        self._late_lock = threading.Lock()
        self._late: list[ObjectRef] = []  # acquires that their caller no longer waited for

    def _acquire(
        self, paths: Sequence[Path], deadline_s: float, streamed: bool, claim: bool
    ) -> Acquired:
        self._release_late()
        call = self._shard.acquire.remote(paths, self.holder_id, deadline_s, streamed, claim)
        try:
            acquired: Acquired = _result(call, deadline_s + _GRACE_S)
        except DeadlineError:
            with self._late_lock:
                self._late.append(call)
            raise
        return acquired

    def _commit(self, ticket_ids: list[TicketId], crcs: list[tuple[int, ...]]) -> None:
        _result(self._shard.commit.remote(ticket_ids, crcs), _CALL_TIMEOUT_S)

    def _abort(self, ticket_ids: list[TicketId]) -> None:
        _result(self._shard.abort.remote(ticket_ids), _CALL_TIMEOUT_S)

    def _release(self, lease_id: LeaseId) -> None:
        _result(self._shard.release.remote(lease_id), _CALL_TIMEOUT_S)

    def _trim(
        self, kept: Mapping[LeaseId, Collection[SegmentKey]], used: Sequence[SegmentKey]
    ) -> None:
        _result(self._shard.trim.remote(dict(kept), list(used)), _CALL_TIMEOUT_S)

    def _announce(self, request_id: str, keys: list[SegmentKey], deadline_s: float) -> None:
        _result(self._shard.announce.remote(request_id, keys, deadline_s), _CALL_TIMEOUT_S)

    def _unregister(self) -> None:
        with suppress(StoreUnavailableError, DeadlineError):  # the lock file says it as well
            _result(self._shard.unregister.remote(self.holder_id), _CALL_TIMEOUT_S)

    def wait(self, keys: Collection[SegmentKey], deadline_s: float) -> None:
        _result(self._shard.wait.remote(list(keys), deadline_s), deadline_s + _GRACE_S)

    def retire(self, request_id: str) -> None:
        _result(self._shard.retire.remote(request_id), _CALL_TIMEOUT_S)

    def locate(self, keys: Collection[SegmentKey]) -> Mapping[SegmentKey, TierName]:
        call = self._shard.locate.remote(list(keys))
        found: Mapping[SegmentKey, TierName] = _result(call, _CALL_TIMEOUT_S)
        return found

    def remove_tags(self, tags: Collection[bytes]) -> int:
        removed: int = _result(self._shard.remove_tags.remote(list(tags)), _CALL_TIMEOUT_S)
        return removed

    def stats(self) -> StoreStats:
        stats: StoreStats = _result(self._shard.stats.remote(), _CALL_TIMEOUT_S)
        return stats

    def checksums(self, keys: Collection[SegmentKey]) -> dict[SegmentKey, tuple[int, ...]]:
        """Of the layers of what is in DRAM, as it came there."""
        call = self._shard.checksums.remote(list(keys))
        crcs: dict[SegmentKey, tuple[int, ...]] = _result(call, _CALL_TIMEOUT_S)
        return crcs

    def _release_late(self) -> None:
        """Leases that arrived after their caller had left would stay pinned for this process's
        life."""
        with self._late_lock:
            if not self._late:
                return
            arrived, self._late = ray.wait(self._late, num_returns=len(self._late), timeout=0)
        for call in arrived:
            try:
                acquired: Acquired = _result(call, _CALL_TIMEOUT_S)
            except KVStoreError:  # nothing was acquired
                continue
            self._shard.release.remote(acquired.lease_id)


def _result(call: ObjectRef, timeout_s: float) -> Any:
    """The call's value; what Ray wraps or raises becomes the store's own errors."""
    try:
        return ray.get(call, timeout=timeout_s)
    except GetTimeoutError as error:
        raise DeadlineError(f"the store did not answer in {timeout_s} s") from error
    except RayTaskError as error:
        if isinstance(error.cause, KVStoreError):
            raise error.cause from None
        raise
    except RayActorError as error:
        raise StoreUnavailableError(f"the store's actor is gone or restarting: {error}") from error
    except RayError as error:
        raise StoreUnavailableError(f"the store cannot be reached: {error}") from error
