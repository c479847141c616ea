"""What a client asks of its store, however a call gets there."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence

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


class StoreCalls(ABC):
    """Each call is that of `KVStore`, in the name of one holder, with arguments that were looked
    at. Raises StoreUnavailableError when the store cannot be reached."""

    @abstractmethod
    def _acquire(
        self, paths: Sequence[Path], deadline_s: float, streamed: bool, claim: bool
    ) -> Acquired: ...

    @abstractmethod
    def _commit(
        self,
        ticket_ids: list[TicketId],
        crcs: list[tuple[int, ...]],
        lineages: list[Lineage | None],
    ) -> None: ...

    @abstractmethod
    def _abort(self, ticket_ids: list[TicketId]) -> None: ...

    @abstractmethod
    def _release(self, lease_id: LeaseId) -> None: ...

    @abstractmethod
    def _trim(
        self, kept: Mapping[LeaseId, Collection[SegmentKey]], used: Sequence[SegmentKey]
    ) -> None: ...

    @abstractmethod
    def _announce(
        self, request_id: str, tenant: bytes, keys: list[SegmentKey], deadline_s: float
    ) -> None: ...

    @abstractmethod
    def _unregister(self) -> None: ...

    @abstractmethod
    def _wait(self, keys: Collection[SegmentKey], deadline_s: float) -> None: ...

    @abstractmethod
    def _retire(self, request_id: str) -> None: ...

    @abstractmethod
    def _locate(self, keys: Collection[SegmentKey]) -> Mapping[SegmentKey, TierName]: ...

    @abstractmethod
    def _remove_tags(self, tags: Collection[bytes], removal: bytes) -> int: ...

    @abstractmethod
    def _lineages(self, keys: Collection[SegmentKey]) -> dict[SegmentKey, Lineage]: ...

    @abstractmethod
    def _checksums(self, keys: Collection[SegmentKey]) -> dict[SegmentKey, tuple[int, ...]]: ...

    @abstractmethod
    def _stats(self) -> StoreStats: ...
