"""The generator of one replica: a continuous batcher behind an async stream of chunks."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from actors.engine.config import EngineConfig, GeneratorConfig, ModelConfig, PromptConfig
from actors.errors import UnavailableError
from actors.messages import CacheReport, GenerateChunk, GenerateRequest
from actors.store_client import RayStoreClient
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
        from actors.engine.compute import ComputeSlot, use_threads
        from actors.engine.generate import GenerateEngine
        from actors.engine.models import load_decoder
        from actors.engine.prompt import Prompt

        self._threads = use_threads(engine.torch_threads)
        self._client = RayStoreClient(store)
        decoder = load_decoder(model)
        self._engine = GenerateEngine(
            decoder,
            Prompt(decoder.tokenizer, prompt),
            generator,
            self._client,
            ComputeSlot(engine, run_dir),
        )
        self._batcher = Batcher(self._engine, generator)
        self._facts = {
            "model": decoder.name,
            "dtype": decoder.dtype,
            "device": str(decoder.device),
            "mode": generator.mode,
        }
        self._total = CacheReport()
        self._num_requests = 0

    async def generate(self, request: GenerateRequest) -> AsyncIterator[GenerateChunk]:
        """Chunks of one answer; raises RequestError, OverloadedError, ExpiredError.

        The chunks of one answer are bounded by its `max_tokens`, so their queue is too.
        """
        loop = asyncio.get_running_loop()
        chunks: asyncio.Queue[GenerateChunk | Exception] = asyncio.Queue()
        job = self._batcher.submit(
            request, lambda item: loop.call_soon_threadsafe(chunks.put_nowait, item)
        )
        try:
            while True:
                async with asyncio.timeout(request.timeout_s + 1.0):
                    item = await chunks.get()
                if isinstance(item, Exception):
                    raise item
                yield item
                if item.finish_reason is not None:
                    self._count(item)
                    return
        finally:
            self._batcher.cancel(job)

    async def forget(self, tenant: str, texts: tuple[str, ...]) -> int:
        """Remove the segments of passages that no longer exist."""
        return await asyncio.to_thread(self._engine.forget, tenant, texts)

    async def status(self) -> dict[str, Any]:
        """Facts, queue and what reuse did since start, as plain data."""
        return {
            **self._facts,
            "threads": self._threads,
            "waiting": self._batcher.num_waiting,
            "active": self._batcher.num_active,
            "requests": self._num_requests,
            "segment_hits": self._total.dram_hits + self._total.ssd_hits,
            "segments_computed": self._total.computed,
            "tokens_reused": self._total.tokens_reused,
            "tokens_computed": self._total.tokens_computed,
        }

    def check_health(self) -> None:
        """Serve restarts the replica when this raises."""
        if not self._batcher.alive:
            raise UnavailableError("the generator's engine thread has ended")

    def _count(self, last: GenerateChunk) -> None:
        self._num_requests += 1
        if last.cache is not None:
            self._total += last.cache
