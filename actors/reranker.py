"""The reranker of one replica: an engine on its own thread behind async methods."""

import asyncio
from dataclasses import asdict
from typing import Any
from uuid import uuid4

from actors.announcements import Announcement
from actors.cluster_store import ClusterStoreClient
from actors.counters import ReuseCounters
from actors.engine.config import EngineConfig, ModelConfig, PromptConfig, RerankerConfig
from actors.errors import UnavailableError
from actors.farewell import farewell
from actors.logs import speak
from actors.messages import CacheReport, PrecomputeRequest, RerankRequest, RerankResult
from actors.rerank_queue import RerankQueue
from actors.whereabouts import whereabouts
from kvstore.config import StoreConfig


class Reranker:
    """Scores requests in batches; they wait in a bounded queue, never on the event loop."""

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
        from actors.engine.rerank import RerankEngine
        from actors.engine.runtime import load_runtime

        self._config = reranker
        speak()
        self._runtime = load_runtime(model, prompt, engine, run_dir)
        self._store = ClusterStoreClient(store)
        self._engine = RerankEngine(self._runtime, reranker, self._store)
        self._queue = RerankQueue(self._engine, reranker, self._store.threads)
        self._reuse = ReuseCounters()

    async def rerank(self, request: RerankRequest) -> RerankResult:
        """Raises RequestError, OverloadedError, ExpiredError. While it waits for its turn, the
        store may fetch what it will need."""
        texts = request.texts[: self._config.max_candidates]
        request_id = uuid4().hex
        announcement = Announcement(
            lambda: self._engine.announce(request_id, request.tenant, texts, request.timeout_s),
            lambda: self._engine.retire(request_id),
        )
        async with announcement.made(self._queue.num_open > 0):
            result = await asyncio.wrap_future(self._queue.submit(request, announcement.end))
        self._reuse.count(result.cache)
        return result

    async def precompute(self, request: PrecomputeRequest) -> CacheReport:
        """Fill the store for passages ahead of questions."""
        return await asyncio.wrap_future(
            self._queue.run_cancellable(
                lambda abandoned: self._engine.precompute(
                    request.tenant, request.texts, request.timeout_s, abandoned
                )
            )
        )

    async def forget(self, tenant: str, texts: tuple[str, ...]) -> int:
        """Remove the segments of passages that no longer exist."""
        forgetting = self._queue.run(lambda: self._engine.forget(tenant, texts))
        return await asyncio.wrap_future(forgetting)

    def record_autoscaling_stats(self) -> dict[str, int | float]:
        """For `cluster.autoscaler`: Serve asks each replica, and keeps what it said for a while."""
        return self._queue.meter.stats()

    async def status(self) -> dict[str, Any]:
        """Facts, queue and what reuse did since start, as plain data."""
        return {
            **whereabouts(),
            **self._runtime.status(),
            "reuse": self._config.reuse,
            "device_tier": asdict(self._engine.device_stats()),
            "waiting": self._queue.num_open,
            "batches": self._queue.num_batches,
            "threads": {name: asdict(s) for name, s in self._store.threads.stats().items()},
            **self._reuse.status(),
        }

    def check_health(self) -> None:
        """Serve restarts the replica when this raises."""
        if gone := self._store.threads.gone():
            raise UnavailableError(f"threads of the reranker have ended: {', '.join(gone)}")

    def __del__(self) -> None:
        """Serve calls it at the end of a graceful stop; a constructor may have failed before."""
        if hasattr(self, "_queue"):
            farewell(self._queue.run, self._engine.hand_over, self._store.flush)
