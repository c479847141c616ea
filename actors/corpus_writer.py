"""The corpus writer as a deployment holds it: changes on one thread, listings on another."""

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from actors.engine.config import EngineConfig, ModelConfig
from actors.engine.weights import load_tokenizer
from actors.errors import OverloadedError, RequestError
from actors.messages import (
    DeleteResult,
    Document,
    DocumentPage,
    IngestResult,
    Neighbourhood,
    NeighbourhoodPage,
    PassagePage,
    RecordResult,
)
from actors.passages import PassageSplitter
from actors.retrieval.config import RetrievalConfig
from actors.retrieval.corpus import CorpusWriter
from actors.retrieval.embedding import Embedder
from actors.retrieval.names import check_limit, check_names
from actors.retrieval.neighbours import neighbourhoods
from actors.retrieval.remote import open_storage
from actors.retrieval.snapshot import Snapshot
from actors.whereabouts import whereabouts
from kvstore.executor import DaemonExecutor

T = TypeVar("T")

_LOCK_WAIT_S = 10.0
"""A replica that is replaced may need this long to end."""


class CorpusService:
    """The event loop only waits. A change that was begun is finished, even if its caller left."""

    def __init__(
        self, retrieval: RetrievalConfig, model: ModelConfig, engine: EngineConfig
    ) -> None:
        """`model` is the reranker's: its tokenizer counts the tokens of passages."""
        self._config = retrieval
        storage = open_storage(
            retrieval.corpus_uri, retrieval.local_cache_dir, retrieval.local_cache_bytes
        )
        splitter = PassageSplitter(
            load_tokenizer(model.source, model.cache_dir), retrieval.passage_tokens
        )
        embedder = Embedder(retrieval.embedder, retrieval.embed_batch, engine.torch_threads)
        self._writer = CorpusWriter(retrieval, storage, embedder, splitter, _LOCK_WAIT_S)
        self._changes = DaemonExecutor(1, "corpus-changes")
        self._listings = DaemonExecutor(1, "corpus-listings")
        self._num_changes = self._num_listings = 0
        self._changing_since: float | None = None

    async def ingest(self, tenant: str, collection: str, documents: list[Document]) -> IngestResult:
        """See `CorpusWriter.ingest`; OverloadedError when too many changes wait."""
        return await self._changed(partial(self._writer.ingest, tenant, collection, documents))

    async def delete(
        self, tenant: str, collection: str, document_ids: Sequence[str]
    ) -> DeleteResult:
        """See `CorpusWriter.delete`."""
        return await self._changed(partial(self._writer.delete, tenant, collection, document_ids))

    async def list_documents(
        self, tenant: str, collection: str, after: str | None = None, limit: int = 100
    ) -> DocumentPage:
        return await self._listed(
            partial(self._writer.list_documents, tenant, collection, after, limit)
        )

    async def collections(self, tenant: str) -> list[str]:
        return await self._listed(partial(self._writer.collections, tenant))

    async def passages(
        self,
        tenant: str,
        collection: str,
        after: str | None = None,
        limit: int = 256,
        document_ids: Sequence[str] | None = None,
    ) -> PassagePage:
        """Passages of all documents, or of these, in an order that no version changes."""
        return await self._listed(
            partial(self._page, tenant, collection, after, limit, document_ids)
        )

    async def neighbourhoods(
        self, tenant: str, collection: str, after: str | None, limit: int, num: int
    ) -> NeighbourhoodPage:
        """Passages in the order of `passages`, each with its `num` nearest others."""
        return await self._listed(
            partial(self._neighbourhoods, tenant, collection, after, limit, num)
        )

    async def record(
        self, tenant: str, collection: str, made: Sequence[Neighbourhood]
    ) -> RecordResult:
        """See `CorpusWriter.record`; OverloadedError when too many changes wait."""
        return await self._changed(partial(self._writer.record, tenant, collection, made))

    async def status(self) -> dict[str, Any]:
        since = self._changing_since
        return {
            **whereabouts(),
            "corpus_uri": self._config.corpus_uri,
            "changes_waiting": self._num_changes,
            "listings_waiting": self._num_listings,
            "change_running_s": time.monotonic() - since if since is not None else 0.0,
        }

    def close(self) -> None:
        """Finish what was begun and let another writer in."""
        self._changes.shutdown()
        self._listings.shutdown()
        self._writer.close()

    async def _changed(self, change: Callable[[], T]) -> T:
        if self._num_changes >= self._config.max_waiting:
            raise OverloadedError("the corpus writer's queue of changes")
        self._num_changes += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._changes, self._timed, change
            )
        finally:
            self._num_changes -= 1

    async def _listed(self, listing: Callable[[], T]) -> T:
        if self._num_listings >= self._config.max_waiting:
            raise OverloadedError("the corpus writer's queue of listings")
        self._num_listings += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._listings, listing)
        finally:
            self._num_listings -= 1

    def _timed(self, change: Callable[[], T]) -> T:
        self._changing_since = time.monotonic()
        try:
            return change()
        finally:
            self._changing_since = None

    def _page(
        self,
        tenant: str,
        collection: str,
        after: str | None,
        limit: int,
        document_ids: Sequence[str] | None,
    ) -> PassagePage:
        snapshot = self._opened(tenant, collection, limit)
        return _page(snapshot, after, limit, document_ids)

    def _neighbourhoods(
        self, tenant: str, collection: str, after: str | None, limit: int, num: int
    ) -> NeighbourhoodPage:
        snapshot = self._opened(tenant, collection, limit)
        page = _page(snapshot, after, limit, None)
        found = neighbourhoods(snapshot, page.passages, num) if snapshot else ()
        return NeighbourhoodPage(tuple(found), page.next_after)

    def _opened(self, tenant: str, collection: str, limit: int) -> Snapshot | None:
        check_names(tenant, collection)
        check_limit(limit)
        return self._writer.snapshot(tenant, collection)


def _page(
    snapshot: Snapshot | None, after: str | None, limit: int, document_ids: Sequence[str] | None
) -> PassagePage:
    position = _parse_position(after) if after is not None else None
    if snapshot is None:
        return PassagePage(0, 0, (), None)
    found = snapshot.passages(document_ids, position)
    passages = tuple(islice(found, limit))
    more = next(found, None) is not None
    next_after = f"{passages[-1].ordinal}/{passages[-1].document_id}" if more else None
    return PassagePage(snapshot.version, snapshot.num_passages, passages, next_after)


def _parse_position(after: str) -> tuple[str, int]:
    """(document id, ordinal) of the last passage that a page had."""
    ordinal, slash, document_id = after.partition("/")
    if not slash or not ordinal.isdecimal():
        raise RequestError("after", f"{after!r} is not what a page gave as next_after")
    return document_id, int(ordinal)
