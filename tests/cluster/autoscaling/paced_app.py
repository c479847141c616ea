"""The Serve application around small parts that take their time: each replica has one GPU, which is
a lock, and a question says how long it needs it. Seconds are slept, so that cores that are shared
do not matter.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ray.serve import Application

from actors.farewell import farewell
from actors.messages import GenerateChunk, GenerateRequest, RerankRequest, RerankResult
from actors.work_meter import WorkMeter
from cluster.app import Parts, assemble
from cluster.config import HyperRagConfig
from tests.cluster.autoscaling.pace import Holding, rank_s, write_s
from tests.cluster.parts import (
    FileCorpus,
    WordGenerator,
    WordReranker,
    WordRetriever,
    parse_lines,
)

APP = "tests.cluster.autoscaling.paced_app:build"
LOAD_S = 2.0
"""As of a model."""


class Gpu:
    """One at a time; the others wait."""

    def __init__(self, pool: str, run_dir: str) -> None:
        self.meter = WorkMeter()
        self._lock = asyncio.Lock()
        self._holding = Holding(pool, run_dir)
        time.sleep(LOAD_S)

    async def use(self, units: int, seconds: float) -> None:
        self.meter.arrive(units)
        async with self._lock:
            self.meter.begin(units)
            await asyncio.sleep(seconds)
            self.meter.work(seconds)
            self.meter.complete(units)

    def farewell(self) -> None:
        """As a replica with a model does; what it hands over is the fact that it was asked to."""
        farewell(ThreadPoolExecutor(1).submit, self._hand_over, lambda _: True)

    def _hand_over(self, timeout_s: float) -> int:
        self._holding.stopped()
        return 0


class PacedReranker(WordReranker):
    def __init__(self, *settings: Any) -> None:
        super().__init__(*settings)
        self._gpu = Gpu("rerank", settings[-1])

    async def rerank(self, request: RerankRequest) -> RerankResult:
        num = len(request.texts)
        await self._gpu.use(num, rank_s(request.query, num))
        return await super().rerank(request)

    def record_autoscaling_stats(self) -> dict[str, int | float]:
        return self._gpu.meter.stats()

    def __del__(self) -> None:
        self._gpu.farewell()


class PacedGenerator(WordGenerator):
    def __init__(self, *settings: Any) -> None:
        super().__init__(*settings)
        self._gpu = Gpu("generate", settings[-1])

    async def generate(self, request: GenerateRequest) -> AsyncIterator[GenerateChunk]:
        await self._gpu.use(1, write_s(request.messages[-1].content))
        async for chunk in super().generate(request):
            yield chunk

    def record_autoscaling_stats(self) -> dict[str, int | float]:
        return self._gpu.meter.stats()

    def __del__(self) -> None:
        self._gpu.farewell()


def build(args: dict[str, Any]) -> Application:
    config = HyperRagConfig.parse(args)
    return assemble(
        config, Parts(WordRetriever, FileCorpus, PacedReranker, PacedGenerator, parse_lines)
    )
