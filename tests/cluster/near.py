"""The small parts in this process, called as the ingress calls deployments elsewhere."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from prometheus_client.metrics_core import Metric

from actors.engine.config import (
    EngineConfig,
    GeneratorConfig,
    ModelConfig,
    PromptConfig,
    RerankerConfig,
)
from actors.errors import RequestError
from actors.messages import (
    CacheReport,
    FitRequest,
    FusedSegment,
    FuseRequest,
    GenerateChunk,
    GenerateRequest,
)
from actors.retrieval.config import RetrievalConfig
from actors.texts import TokenizeRequest, TokenizeResult
from cluster.metrics.request import Instruments
from cluster.services import Services
from kvstore.config import StoreConfig
from tests.cluster.parts import FileCorpus, WordGenerator, WordReranker, WordRetriever


class Near:
    def __init__(self, part: Any) -> None:
        self.part = part

    async def status(self, timeout_s: float) -> list[dict[str, Any]]:
        return [await self.part.status()]

    def __getattr__(self, method: str) -> Any:
        async def call(*args: Any, timeout_s: float | None = None) -> Any:
            takes_request = method in ("search", "embed", "rerank", "precompute")
            return await getattr(self.part, method)(*(args if takes_request else args[:-1]))

        return call


class NearGenerator:
    def __init__(self, part: WordGenerator) -> None:
        self.part = part
        self.requests: list[GenerateRequest] = []

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[GenerateChunk]:
        self.requests.append(request)
        stream = self.part.generate(request)
        try:
            async for chunk in stream:
                yield chunk
        finally:
            await stream.aclose()  # type: ignore[attr-defined]

    async def fit(self, request: FitRequest) -> int:
        return await self.part.fit(request)

    async def tokenize(self, request: TokenizeRequest) -> TokenizeResult:
        return await self.part.tokenize(request)

    async def fuse(self, request: FuseRequest) -> CacheReport:
        return await self.part.fuse(request)

    async def forget(
        self,
        tenant: str,
        texts: tuple[str, ...],
        fused: tuple[FusedSegment, ...],
        timeout_s: float,
    ) -> int:
        return await self.part.forget(tenant, texts, fused)

    async def status(self, timeout_s: float) -> list[dict[str, Any]]:
        return [await self.part.status()]


class NearIngress:
    def __init__(self, instruments: Instruments) -> None:
        self._instruments = instruments

    async def families(self, timeout_s: float) -> list[list[Metric]]:
        return [self._instruments.families()]


class NearStore:
    def __init__(self) -> None:
        self.drained: list[str] = []

    async def status(self, timeout_s: float) -> dict[str, Any]:
        dram = {"num_segments": 4, "capacity_bytes": 64, "tenants": [["ab", 3]]}
        node = {"node_id": "1", "name": "here", "state": "up", "store": {"dram": dram}}
        return {"epoch": 1, "nodes": [node, {**node, "name": "there"}], "changes": []}

    async def check(self, repair: bool, timeout_s: float) -> dict[str, Any]:
        return {"segments_checked": 4, "problems": [], "repaired": int(repair)}

    async def drain(self, node: str, timeout_s: float) -> None:
        if node not in ("here", "there"):
            raise RequestError("node", f"is {node!r}, must be one of here, there")
        self.drained.append(node)


def near_services(folder: Path) -> Services:
    retrieval = RetrievalConfig(corpus_uri=str(folder))
    engine = (ModelConfig(), PromptConfig(), EngineConfig())
    store = StoreConfig()
    return Services(
        Near(WordRetriever(retrieval)),
        Near(FileCorpus(retrieval, ModelConfig("words"), EngineConfig())),
        Near(WordReranker(*engine, RerankerConfig(), store, "")),
        NearGenerator(WordGenerator(*engine, GeneratorConfig(), store, "")),
        NearStore(),
        NearIngress(Instruments("1", 256)),
    )
