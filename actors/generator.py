"""The generator of one replica: a continuous batcher behind an async stream of chunks."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from functools import partial
from typing import Any
from uuid import uuid4

from actors.announcements import Announcement
from actors.cluster_store import ClusterStoreClient
from actors.counters import ReuseCounters
from actors.engine.config import EngineConfig, GeneratorConfig, ModelConfig, PromptConfig
from actors.errors import UnavailableError
from actors.farewell import farewell
from actors.logs import speak
from actors.messages import (
    CacheReport,
    FitRequest,
    FusedSegment,
    FuseRequest,
    GenerateChunk,
    GenerateRequest,
)
from actors.texts import TokenizeRequest, TokenizeResult
from actors.whereabouts import whereabouts
from kvstore.config import StoreConfig


class Generator:
    """Streams answers. A consumer that goes away cancels its request."""

    def __init__(
        self,
        model: ModelConfig,
        prompt: PromptConfig,
        engine: EngineConfig,
        generator: GeneratorConfig,
        store: StoreConfig,
        run_dir: str,
    ) -> None:
        from actors.engine.batcher import Batcher  # see Reranker: only where the model runs
        from actors.engine.generate import GenerateEngine
        from actors.engine.runtime import load_runtime
        from actors.engine.tokenizing import tokenize

        speak()
        self._runtime = load_runtime(model, prompt, engine, run_dir)
        self._mode = generator.mode
        self._tokenize = partial(tokenize, self._runtime, generator)
        self._store = ClusterStoreClient(store)
        self._engine = GenerateEngine(self._runtime, generator, self._store)
        self._batcher = Batcher(self._engine, generator, self._store.threads)
        self._reuse = ReuseCounters()

    async def generate(self, request: GenerateRequest) -> AsyncIterator[GenerateChunk]:
        """Chunks of one answer; raises RequestError, OverloadedError, ExpiredError.

        The chunks of one answer are bounded by its `max_tokens`, so their queue is too. While the
        request waits for a place in the batch, the store may fetch what it will need.
        """
        loop = asyncio.get_running_loop()
        chunks: asyncio.Queue[GenerateChunk | Exception] = asyncio.Queue()
        request_id = uuid4().hex
        announcement = Announcement(
            lambda: self._engine.announce(request_id, request),
            lambda: self._engine.retire(request_id),
        )
        async with announcement.made(self._batcher.must_wait):
            job = self._batcher.submit(
                request,
                lambda item: loop.call_soon_threadsafe(chunks.put_nowait, item),
                announcement.end,
            )
            try:
                while True:
                    async with asyncio.timeout(request.timeout_s + 1.0):
                        item = await chunks.get()
                    if isinstance(item, Exception):
                        raise item
                    yield item
                    if item.finish_reason is not None:
                        self._reuse.count(item.cache or CacheReport())
                        return
            finally:
                self._batcher.cancel(job)

    async def fit(self, request: FitRequest) -> int:
        """How many of a conversation's oldest exchanges have to go. Raises RequestError."""
        return await asyncio.to_thread(self._engine.fit, request)

    async def tokenize(self, request: TokenizeRequest) -> TokenizeResult:
        """Ids as this model reads them. Raises RequestError."""
        return await asyncio.to_thread(self._tokenize, request)

    async def fuse(self, request: FuseRequest) -> CacheReport:
        """Make fused segments, one after another: requests and their tokens get in between.
        Raises RequestError, OverloadedError, ExpiredError."""
        deadline, report = time.monotonic() + request.timeout_s, CacheReport()
        for passage in request.passages:
            left_s = deadline - time.monotonic()
            work = partial(self._engine.fuse, request.tenant, passage, left_s)
            report += await asyncio.wrap_future(self._batcher.run(work))
        return report

    async def forget(
        self, tenant: str, texts: tuple[str, ...], fused: tuple[FusedSegment, ...] = ()
    ) -> int:
        """Remove the segments of passages that no longer exist, and these fused ones."""
        return await asyncio.to_thread(self._engine.forget, tenant, texts, fused)

    def record_autoscaling_stats(self) -> dict[str, int | float]:
        """For `cluster.autoscaler`: Serve asks each replica, and keeps what it said for a while."""
        return self._batcher.meter.stats()

    async def status(self) -> dict[str, Any]:
        """Facts, queue and what reuse did since start, as plain data."""
        return {
            **whereabouts(),
            **self._runtime.status(),
            "mode": self._mode,
            "device_tier": asdict(self._engine.device_stats()),
            "waiting": self._batcher.num_waiting,
            "active": self._batcher.num_active,
            "threads": {name: asdict(s) for name, s in self._store.threads.stats().items()},
            **self._reuse.status(),
        }

    def check_health(self) -> None:
        """Serve restarts the replica when this raises."""
        if gone := self._store.threads.gone():
            raise UnavailableError(f"threads of the generator have ended: {', '.join(gone)}")

    def __del__(self) -> None:
        """Serve calls it at the end of a graceful stop; a constructor may have failed before."""
        if hasattr(self, "_batcher"):
            farewell(self._batcher.run, self._engine.hand_over, self._store.flush)
