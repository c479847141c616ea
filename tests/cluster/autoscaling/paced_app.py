"""The Serve application around small parts that take their time: each replica has one GPU, which is
a lock, and a question says how long it needs it: "... rank=SECONDS write=SECONDS".

Seconds are slept, so that cores that are shared do not matter. Every replica leaves a file with the
id of its process, by which its process is known for as long as it lives, and another when Serve has
stopped it as it should.
"""

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
from ray.serve import Application

from actors.farewell import farewell
from actors.messages import GenerateChunk, GenerateRequest, RerankRequest, RerankResult
from actors.work_meter import WorkMeter
from cluster.app import Parts, assemble
from cluster.config import HyperRagConfig
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
PASSAGES = 20
"""`rank` is for so many."""


class Gpu:
    """One at a time; the others wait."""

    def __init__(self, pool: str, run_dir: str) -> None:
        self.meter = WorkMeter()
        self._lock = asyncio.Lock()
        self._folder = Path(run_dir)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._name = f"{os.getpid()}.{pool}"
        (self._folder / self._name).touch()
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
        (self._folder / f"{self._name}.stopped").touch()
        return 0


def held(run_dir: Path) -> dict[str, int]:
    """Processes that hold a GPU, by pool: from the start of the constructor to their end."""
    count = {"rerank": 0, "generate": 0}
    for path in run_dir.glob("[0-9]*.*"):
        pid, pool, *stopped = path.name.split(".")
        if not stopped and _lives(int(pid)):
            count[pool] += 1
    return count


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _seconds(name: str, text: str) -> float:
    found = re.search(rf"{name}=([\d.]+)", text)
    return float(found[1]) if found else 0.0


class PacedReranker(WordReranker):
    def __init__(self, *settings: Any) -> None:
        super().__init__(*settings)
        self._gpu = Gpu("rerank", settings[-1])

    async def rerank(self, request: RerankRequest) -> RerankResult:
        share = len(request.texts) / PASSAGES
        await self._gpu.use(len(request.texts), share * _seconds("rank", request.query))
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
        await self._gpu.use(1, _seconds("write", request.messages[-1].content))
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
