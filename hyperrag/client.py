"""The HTTP client: one method per thing the service does."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

from actors.messages import Document
from hyperrag.batches import batches
from hyperrag.errors import HyperRagError
from hyperrag.results import (
    Answer,
    Candidates,
    DocumentInfo,
    IngestReport,
    Ranking,
    read,
    read_answer,
    read_candidates,
    read_ranking,
)
from hyperrag.transport import Json, Transport

T = TypeVar("T")

BATCH_DOCUMENTS = 64
BATCH_BYTES = 4 * 2**20  # 4 MiB of text in one request


class Client:
    """Talks to a running HyperRAG service. Thread-safe. Every method raises HyperRagError, with
    the field that was wrong where one was, and its UnreachableError when nothing answers.

    Proxy and certificate variables of the environment hold, but not for this machine, which is
    reached directly; SettingError names the one that is wrong."""

    def __init__(self, base_url: str, api_key: str | None = None, timeout_s: float = 120) -> None:
        self._transport = Transport(base_url, api_key, timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._transport.close()

    def ask(self, question: str, **options: Any) -> Answer:
        """`options` are the fields of `POST /v1/rag/query`: collection, top_n, top_k, max_tokens,
        temperature; None leaves one to the service."""
        body = _body(question=question, **options)
        return _parse(read_answer, self._transport.request("POST", "/v1/rag/query", body))

    def ask_stream(self, question: str, **options: Any) -> Iterator[str | Answer]:
        """Pieces of the answer as they are made; the last item is the whole `Answer`."""
        body = _body(question=question, stream=True, **options)
        for event in self._transport.events("/v1/rag/query", body):
            yield event["delta"] if "delta" in event else _parse(read_answer, event)

    def candidates(self, question: str, **options: Any) -> Candidates:
        """What is found and reranked for a question, without an answer. `options` are the fields
        of `POST /v1/rag/candidates`: collection, top_n; None leaves one to the service."""
        body = _body(question=question, **options)
        data = self._transport.request("POST", "/v1/rag/candidates", body)
        return _parse(read_candidates, data)

    def rerank(self, query: str, documents: Sequence[str], top_n: int | None = None) -> Ranking:
        body = _body(query=query, documents=list(documents), top_n=top_n, return_documents=False)
        return _parse(read_ranking, self._transport.request("POST", "/v1/rerank", body))

    def ingest(
        self,
        documents: Iterable[Document],
        collection: str | None = None,
        on_batch: Callable[[int, IngestReport], None] | None = None,
    ) -> IngestReport:
        """Adds or replaces documents, in batches. Each batch is atomic, the whole is not: after
        an error, ingest again; what is there already is left alone. `on_batch` is told how many
        documents were sent and the sum so far."""
        total = IngestReport()
        sent = 0
        for batch in batches(documents, BATCH_DOCUMENTS, BATCH_BYTES):
            body = _body(documents=[asdict(document) for document in batch], collection=collection)
            data = self._transport.request("POST", "/v1/documents", body)
            total += _parse(lambda data: read(IngestReport, data), data)
            sent += len(batch)
            if on_batch:
                on_batch(sent, total)
        return total

    def documents(self, collection: str | None = None) -> Iterator[DocumentInfo]:
        """All documents of a collection, by id, fetched page by page."""
        after: str | None = None
        while True:
            page = self._transport.request(
                "GET", "/v1/documents", collection=collection, after=after
            )
            for item in page.get("documents", ()):
                yield _parse(lambda data: read(DocumentInfo, data), item)
            after = page.get("next_after")
            if after is None:
                return

    def delete(self, document_id: str, collection: str | None = None) -> Json:
        """Takes a document out of search at once. 404 when there is none of that id."""
        name = quote(document_id, safe="").replace(".", "%2E")  # `..` would be a step up
        path = f"/v1/documents/{name}"
        return self._transport.request("DELETE", path, collection=collection)

    def status(self) -> Json:
        """Deployments, nodes of the store, tiers and hit rates."""
        return self._transport.request("GET", "/v1/status")

    def drain(self, node: str) -> Json:
        """Has a node give its segments to the others, before it is taken away; `status` says when
        it has (`store.moving`). By its name or id."""
        return self._transport.request("POST", "/v1/drain", _body(node=node))

    def warm(self, collection: str | None = None) -> Iterator[Json]:
        """Fills the store with the segments of a collection's passages ahead of questions. Yields
        the sum so far after every page of passages; the last one has `done`."""
        body = _body(collection=collection, stream=True)
        return self._transport.events("/v1/warm", body)

    def fuse(self, collection: str | None = None) -> Iterator[Json]:
        """Makes the fused segments of a collection's passages, in sight of their neighbours, for
        generator.mode fusion and auto; events as those of `warm`. What is there is left alone."""
        body = _body(collection=collection, stream=True)
        return self._transport.events("/v1/fuse", body)

    def check(self, repair: bool = False) -> Json:
        """Verifies every segment of the store."""
        return self._transport.request("POST", "/v1/check", _body(repair=repair))

    def models(self) -> list[str]:
        data = self._transport.request("GET", "/v1/models")
        return _parse(lambda data: [model["id"] for model in data["data"]], data)

    def ready(self) -> bool:
        """Whether the service answers and all its parts are up. Never raises: while it starts,
        first nothing answers, then Serve without the application (404), then the ingress (503)."""
        try:
            self._transport.request("GET", "/readyz")
        except HyperRagError:
            return False
        return True


def _body(**values: Any) -> Json:
    return {name: value for name, value in values.items() if value is not None}


def _parse(reader: Callable[[Json], T], data: Json) -> T:
    try:
        return reader(data)
    except (KeyError, TypeError, AttributeError) as error:
        raise HyperRagError(f"the answer is not of the form expected: {error!r}") from error
