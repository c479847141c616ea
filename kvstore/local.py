"""The store in this process: for tests, benches and engines without Ray."""

from collections.abc import Collection, Mapping, Sequence

from kvstore.mapping import MappedClient
from kvstore.store import KVStore
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


class LocalStoreClient(MappedClient):
    """Maps the arena's file as any other process would. Does not own the store."""

    def __init__(self, store: KVStore, dram_dir: str) -> None:
        """`dram_dir` is the store's."""
        super().__init__(dram_dir)
        self._store = store

    def _acquire(
        self, paths: Sequence[Path], deadline_s: float, streamed: bool, claim: bool
    ) -> Acquired:
        return self._store.acquire(paths, self.holder_id, deadline_s, streamed, claim)

    def _commit(
        self,
        ticket_ids: list[TicketId],
        crcs: list[tuple[int, ...]],
        lineages: list[Lineage | None],
    ) -> None:
        self._store.commit(ticket_ids, crcs, self.holder_id, lineages)

    def _abort(self, ticket_ids: list[TicketId]) -> None:
        self._store.abort(ticket_ids, self.holder_id)

    def _release(self, lease_id: LeaseId) -> None:
        self._store.release(lease_id, self.holder_id)

    def _trim(
        self, kept: Mapping[LeaseId, Collection[SegmentKey]], used: Sequence[SegmentKey]
    ) -> None:
        self._store.trim(kept, self.holder_id, used)

    def _announce(
        self, request_id: str, tenant: bytes, keys: list[SegmentKey], deadline_s: float
    ) -> None:
        self._store.announce(request_id, tenant, keys, deadline_s)

    def _unregister(self) -> None:
        self._store.unregister(self.holder_id)

    def _wait(self, keys: Collection[SegmentKey], deadline_s: float) -> None:
        self._store.wait(keys, deadline_s)

    def _retire(self, request_id: str) -> None:
        self._store.retire(request_id)

    def _locate(self, keys: Collection[SegmentKey]) -> Mapping[SegmentKey, TierName]:
        return self._store.locate(keys)

    def _remove_tags(self, tags: Collection[bytes], removal: bytes) -> int:
        return self._store.remove_tags(tags, removal)

    def _lineages(self, keys: Collection[SegmentKey]) -> dict[SegmentKey, Lineage]:
        return self._store.lineages(keys)

    def _checksums(self, keys: Collection[SegmentKey]) -> dict[SegmentKey, tuple[int, ...]]:
        return self._store.checksums(keys)

    def _stats(self) -> StoreStats:
        return self._store.stats()
