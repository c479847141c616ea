"""The reranker of one replica: an engine on its own thread behind async methods."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any, TypeVar

from actors.engine.config import EngineConfig, ModelConfig, PromptConfig, RerankerConfig
from actors.errors import OverloadedError
from actors.messages import CacheReport, PrecomputeRequest, RerankRequest, RerankResult
from actors.store_client import RayStoreClient
from kvstore.config import StoreConfig
from kvstore.errors import KVStoreError

T = TypeVar("T")

_CHECK_TIMEOUT_S = 600.0


class Reranker:
    """Scores one request at a time; requests wait in a bounded queue, never on the event loop."""

    def __init__(
        self,
        model: ModelConfig,
        prompt: PromptConfig,
        engine: EngineConfig,
        reranker: RerankerConfig,
        store: StoreConfig,
        run_dir: str,
    ) -> None:
        # Imported where the model runs: who builds the application, and the ingress, need only the
        # class, and torch with transformers takes ten seconds of a core.
        from actors.engine.compute import ComputeSlot, use_threads
        from actors.engine.models import load_decoder
        from actors.engine.prompt import Prompt
        from actors.engine.rerank import RerankEngine

        self._config = reranker
        self._threads = use_threads(engine.torch_threads)
        self._client = RayStoreClient(store)
        decoder = load_decoder(model)
        slot = ComputeSlot(engine, run_dir)
        self._engine = RerankEngine(
            decoder, Prompt(decoder.tokenizer, prompt), reranker, self._client, slot
        )
        self._facts = {"model": decoder.name, "dtype": decoder.dtype, "device": str(decoder.device)}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="reranker-engine")
        self._waiting = 0
        self._lock = threading.Lock()
        self._total = CacheReport()
        self._num_requests = 0

    async def rerank(self, request: RerankRequest) -> RerankResult:
        """Raises RequestError, OverloadedError, ExpiredError."""
        result = await self._run(
            lambda: self._engine.score(
                request.tenant, request.query, request.texts, request.timeout_s
            )
        )
        self._num_requests += 1
        self._total += result.cache
        return result

    async def precompute(self, request: PrecomputeRequest) -> CacheReport:
        """Fill the store for passages ahead of questions."""
        return await self._run(
            lambda: self._engine.precompute(request.tenant, request.texts, request.timeout_s)
        )

    async def forget(self, tenant: str, texts: tuple[str, ...]) -> int:
        """Remove the segments of passages that no longer exist."""
        return await self._run(lambda: self._engine.forget(tenant, texts))

    async def check_store(self, repair: bool) -> dict[str, Any]:
        """The report of the node's shard, as plain data."""
        report = await asyncio.to_thread(self._client.check, repair, _CHECK_TIMEOUT_S)
        return {**asdict(report), "ok": report.ok}

    async def status(self) -> dict[str, Any]:
        """Facts, queue and what reuse did since start, as plain data."""
        try:
            store = asdict(await asyncio.to_thread(self._client.stats))
        except KVStoreError:  # restarting: the rest is still worth knowing
            store = {}
        return {
            "store": store,
            **self._facts,
            "threads": self._threads,
            "reuse": self._config.reuse,
            "waiting": self._waiting,
            "requests": self._num_requests,
            "segment_hits": self._total.dram_hits + self._total.ssd_hits,
            "segments_computed": self._total.computed,
            "tokens_reused": self._total.tokens_reused,
            "tokens_computed": self._total.tokens_computed,
        }

    async def _run(self, work: Callable[[], T]) -> T:
        with self._lock:
            if self._waiting >= self._config.max_waiting:
                raise OverloadedError("the reranker's queue")
            self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        finally:
            with self._lock:
                self._waiting -= 1
