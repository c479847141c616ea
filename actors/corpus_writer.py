"""The corpus writer as a deployment holds it: changes on one thread, listings on another."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

from actors.errors import OverloadedError, RequestError
from actors.messages import DeleteResult, Document, DocumentPage, IngestResult, PassagePage
from actors.retrieval.config import RetrievalConfig
from actors.retrieval.corpus import CorpusWriter
from actors.retrieval.embedding import Embedder
from actors.retrieval.names import check_limit, check_names
from actors.retrieval.passages import PassageSplitter
from actors.retrieval.remote import open_storage

_LOCK_WAIT_S = 10.0
"""A replica that is replaced may need this long to end."""


class CorpusService:
    """The event loop only waits. A change that was begun is finished, even if its caller left."""

    def __init__(self, retrieval: RetrievalConfig, tokenizer_source: str) -> None:
        from actors.engine.models import load_tokenizer

        self._config = retrieval
        storage = open_storage(
            retrieval.corpus_uri, retrieval.local_cache_dir, retrieval.local_cache_bytes
        )
        splitter = PassageSplitter(load_tokenizer(tokenizer_source), retrieval.passage_tokens)
        embedder = Embedder(retrieval.embedder, retrieval.embed_batch)
        self._writer = CorpusWriter(retrieval, storage, embedder, splitter, _LOCK_WAIT_S)
        self._change = ThreadPoolExecutor(1, "corpus-change")
        self._list = ThreadPoolExecutor(1, "corpus-list")
        self._changing = self._listing = 0
        self._changing_since: float | None = None

    async def ingest(
        self, tenant: str, collection: str, documents: list[Document]
    ) -> IngestResult:
        """See `CorpusWriter.ingest`; OverloadedError when too many changes wait."""
        return await self._changed(self._writer.ingest, tenant, collection, documents)

    async def delete(
        self, tenant: str, collection: str, document_ids: Sequence[str]
    ) -> DeleteResult:
        return await self._changed(self._writer.delete, tenant, collection, document_ids)

    async def list_documents(
        self, tenant: str, collection: str, after: str | None = None, limit: int = 100
    ) -> DocumentPage:
        return await self._listed(self._writer.list_documents, tenant, collection, after, limit)

    async def collections(self, tenant: str) -> list[str]:
        return await self._listed(self._writer.collections, tenant)

    async def passages(
        self,
        tenant: str,
        collection: str,
        after: str | None = None,
        limit: int = 256,
        document_ids: Sequence[str] | None = None,
    ) -> PassagePage:
        """Texts of all passages, or of these documents', in an order that no version changes."""
        return await self._listed(self._page, tenant, collection, after, limit, document_ids)

    async def status(self) -> dict[str, Any]:
        since = self._changing_since
        return {
            "corpus_uri": self._config.corpus_uri,
            "changes_waiting": self._changing,
            "listings_waiting": self._listing,
            "change_running_s": time.monotonic() - since if since is not None else 0.0,
        }

    def close(self) -> None:
        """Finish the change under way and let another writer in."""
        self._change.shutdown()
        self._list.shutdown()
        self._writer.close()

    def _page(
        self,
        tenant: str,
        collection: str,
        after: str | None,
        limit: int,
        document_ids: Sequence[str] | None,
    ) -> PassagePage:
        check_names(tenant, collection)
        check_limit(limit)
        position = _parse_position(after)
        snapshot = self._writer.snapshot(tenant, collection)
        if snapshot is None:
            return PassagePage(0, 0, (), None)
        passages = list(islice(snapshot.passages(document_ids, position), limit))
        last = passages[-1] if len(passages) == limit else None
        next_after = f"{last.ordinal}/{last.document_id}" if last else None
        texts = tuple(passage.text for passage in passages)
        return PassagePage(snapshot.version, snapshot.num_passages, texts, next_after)

    async def _changed[**P, T](
        self, change: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T: ...
