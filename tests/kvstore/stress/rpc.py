"""A store behind a socket of this machine: calls in messages, bytes in the mapped arena."""

import threading
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from multiprocessing.connection import Client, Connection, Listener
from typing import Any

from kvstore.errors import KVStoreError
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


class StoreServer:
    """A thread per connection; a client that is killed ends its own."""

    def __init__(self, store: KVStore, address: str) -> None:
        self._store = store
        self._address = address
        self._listener = Listener(address, "AF_UNIX")
        self._closing = False
        self.calls: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Takes no more connections; those that are open end with their clients."""
        self._closing = True
        Client(self._address, "AF_UNIX").close()  # `accept` does not notice a closed socket
        self._thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            connection = self._listener.accept()
            if self._closing:
                connection.close()
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: Connection) -> None:
        with connection:
            try:
                while True:
                    method, arguments = connection.recv()
                    self.calls[method] += 1
                    connection.send(self._answer(method, arguments))
            except (EOFError, OSError):
                pass  # the client is gone

    def _answer(self, method: str, arguments: Sequence[Any]) -> tuple[bool, Any]:
        try:
            return True, getattr(self._store, method)(*arguments)
        except KVStoreError as error:
            return False, error


class RemoteClient(MappedClient):
    """For one thread."""

    def __init__(self, address: str, dram_dir: str) -> None:
        super().__init__(dram_dir)
        self._connection = Client(address, "AF_UNIX")

    def _call(self, method: str, *arguments: object) -> Any:
        self._connection.send((method, arguments))
        succeeded, answer = self._connection.recv()
        if not succeeded:
            raise answer
        return answer

    def _acquire(
        self, paths: Sequence[Path], deadline_s: float, streamed: bool, claim: bool
    ) -> Acquired:
        asked = (paths, self.holder_id, deadline_s, streamed, claim)
        acquired: Acquired = self._call("acquire", *asked)
        return acquired

    def _commit(
        self,
        ticket_ids: list[TicketId],
        crcs: list[tuple[int, ...]],
        lineages: list[Lineage | None],
    ) -> None:
        self._call("commit", ticket_ids, crcs, self.holder_id, lineages)

    def _abort(self, ticket_ids: list[TicketId]) -> None:
        self._call("abort", ticket_ids, self.holder_id)

    def _release(self, lease_id: LeaseId) -> None:
        self._call("release", lease_id, self.holder_id)

    def _trim(
        self, kept: Mapping[LeaseId, Collection[SegmentKey]], used: Sequence[SegmentKey]
    ) -> None:
        self._call("trim", kept, self.holder_id, used)

    def _announce(
        self, request_id: str, tenant: bytes, keys: list[SegmentKey], deadline_s: float
    ) -> None:
        self._call("announce", request_id, tenant, keys, deadline_s)

    def _unregister(self) -> None:
        self._call("unregister", self.holder_id)

    def _wait(self, keys: Collection[SegmentKey], deadline_s: float) -> None:
        self._call("wait", keys, deadline_s)

    def _retire(self, request_id: str) -> None:
        self._call("retire", request_id)

    def _locate(self, keys: Collection[SegmentKey]) -> Mapping[SegmentKey, TierName]:
        found: Mapping[SegmentKey, TierName] = self._call("locate", list(keys))
        return found

    def _remove_tags(self, tags: Collection[bytes], removal: bytes) -> int:
        removed: int = self._call("remove_tags", tags, removal)
        return removed

    def _lineages(self, keys: Collection[SegmentKey]) -> dict[SegmentKey, Lineage]:
        found: dict[SegmentKey, Lineage] = self._call("lineages", list(keys))
        return found

    def _checksums(self, keys: Collection[SegmentKey]) -> dict[SegmentKey, tuple[int, ...]]:
        crcs: dict[SegmentKey, tuple[int, ...]] = self._call("checksums", list(keys))
        return crcs

    def _stats(self) -> StoreStats:
        stats: StoreStats = self._call("stats")
        return stats
