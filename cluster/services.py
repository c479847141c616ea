"""What the pipeline and the ingress need of the deployments, whatever carries the calls.

Every method raises the errors of `actors.errors`, and ReplicaLostError when the other side ended.
Cancelling a call, or closing a stream, cancels the work behind it.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from prometheus_client.metrics_core import Metric

from actors.messages import (
    CacheReport,
    DeleteResult,
    Document,
    DocumentPage,
    FitRequest,
    FusedSegment,
    FuseRequest,
    GenerateChunk,
    GenerateRequest,
    IngestResult,
    Neighbourhood,
    NeighbourhoodPage,
    Passage,
    PrecomputeRequest,
    RecordResult,
    RerankRequest,
    RerankResult,
    SearchRequest,
    SearchResult,
)
from actors.texts import EmbedRequest, EmbedResult, TokenizeRequest, TokenizeResult

Status = dict[str, Any]


class PassagePage(Protocol):
    """A run of a collection's passages; `next_after` continues it, None at its end."""

    @property
    def passages(self) -> Sequence[Passage]: ...
    @property
    def next_after(self) -> str | None: ...


class Deployment(Protocol):
    async def status(self, timeout_s: float) -> list[Status]:
        """One entry per replica."""
        ...


class RetrieverService(Deployment, Protocol):
    async def search(self, request: SearchRequest) -> SearchResult: ...

    async def embed(self, request: EmbedRequest) -> EmbedResult: ...

    async def refresh(self, tenant: str, collection: str, version: int, timeout_s: float) -> None:
        """Returns when every replica serves at least this version."""
        ...


class CorpusService(Deployment, Protocol):
    async def ingest(
        self, tenant: str, collection: str, documents: list[Document], timeout_s: float
    ) -> IngestResult: ...

    async def delete(
        self, tenant: str, collection: str, ids: list[str], timeout_s: float
    ) -> DeleteResult: ...

    async def collections(self, tenant: str, timeout_s: float) -> list[str]:
        """Names of those that have documents."""
        ...

    async def list_documents(
        self, tenant: str, collection: str, after: str | None, limit: int, timeout_s: float
    ) -> DocumentPage: ...

    async def passages(
        self, tenant: str, collection: str, after: str | None, limit: int, timeout_s: float
    ) -> PassagePage: ...

    async def neighbourhoods(
        self,
        tenant: str,
        collection: str,
        after: str | None,
        limit: int,
        num: int,
        timeout_s: float,
    ) -> NeighbourhoodPage: ...

    async def record(
        self, tenant: str, collection: str, made: tuple[Neighbourhood, ...], timeout_s: float
    ) -> RecordResult: ...


class RerankerService(Deployment, Protocol):
    async def rerank(self, request: RerankRequest) -> RerankResult: ...

    async def precompute(self, request: PrecomputeRequest) -> CacheReport: ...

    async def forget(self, tenant: str, texts: tuple[str, ...], timeout_s: float) -> int: ...


class GeneratorService(Deployment, Protocol):
    def generate(self, request: GenerateRequest) -> AsyncGenerator[GenerateChunk]: ...

    async def fit(self, request: FitRequest) -> int:
        """How many of a conversation's oldest exchanges have to go."""
        ...

    async def tokenize(self, request: TokenizeRequest) -> TokenizeResult: ...

    async def fuse(self, request: FuseRequest) -> CacheReport: ...

    async def forget(
        self,
        tenant: str,
        texts: tuple[str, ...],
        fused: tuple[FusedSegment, ...],
        timeout_s: float,
    ) -> int: ...


class StoreService(Protocol):
    """The store of all nodes."""

    async def status(self, timeout_s: float) -> Status: ...

    async def check(self, repair: bool, timeout_s: float) -> Status: ...

    async def drain(self, node: str, timeout_s: float) -> None: ...


class IngressService(Protocol):
    """The ingress itself, all of its replicas."""

    async def families(self, timeout_s: float) -> list[list[Metric]]:
        """What each of them has counted."""
        ...


@dataclass(frozen=True, slots=True)
class Services:
    retriever: RetrieverService
    corpus: CorpusService
    reranker: RerankerService
    generator: GeneratorService
    store: StoreService
    ingress: IngressService

    def by_name(self) -> dict[str, Deployment]:
        return {
            "retriever": self.retriever,
            "corpus": self.corpus,
            "reranker": self.reranker,
            "generator": self.generator,
        }
