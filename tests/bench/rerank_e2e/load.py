"""Requests put to a service: as fast as it answers them, or when they arrive."""

import asyncio
import math
import random
import statistics
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import httpx

from actors.messages import CacheReport
from hyperrag.results import read
from tests.bench.harness import CannotRun
from tests.bench.rerank_e2e.topics import Topics

CLIENTS = 3
"""Of the closed loop: enough that none of the service's stages waits for a question."""


@dataclass(frozen=True, slots=True)
class Reply:
    seconds: float
    """From its arrival, whether or not it could be sent then."""
    timings_ms: dict[str, float]
    rerank: CacheReport


@dataclass(frozen=True, slots=True)
class Load:
    """What happened at one rate. P99 is the maximum where there are fewer than 100 requests."""

    rate: float
    requests: int
    replies: tuple[Reply, ...]
    """None at all where a request failed: the others were cancelled."""

    @property
    def failed(self) -> bool:
        return not self.replies

    @property
    def p99_s(self) -> float:
        return percentile([reply.seconds for reply in self.replies], 0.99)

    def row(self) -> dict[str, Any]:
        if self.failed:
            return {"qps": round(self.rate, 4), "requests": self.requests, "failed": True}
        reports = [reply.rerank for reply in self.replies]
        hits = sum(report.hits for report in reports)
        stages = {
            stage: statistics.median(reply.timings_ms[stage] for reply in self.replies) / 1000
            for stage in ("rerank", "generate")
        }
        return {
            "qps": round(self.rate, 4),
            "requests": self.requests,
            "p50_s": round(percentile([r.seconds for r in self.replies], 0.5), 3),
            "p99_s": round(self.p99_s, 3),
            "rerank_s": round(stages["rerank"], 3),
            "generate_s": round(stages["generate"], 3),
            "hit_share": round(hits / max(1, hits + sum(r.computed for r in reports)), 3),
            "ssd_share": round(sum(r.ssd_hits for r in reports) / max(1, hits), 3),
        }


class Target:
    """A service, and questions for it. Every load asks new ones, about the same topics in turn."""

    def __init__(self, url: str, options: dict[str, Any], topics: Topics, seed: int) -> None:
        """`options`: fields of `POST /v1/rag/query` beside the question."""
        self._url, self._options, self._topics = url, options, topics
        self._seed, self._rng = seed, random.Random(seed)

    def capacity(self, num: int) -> float:
        """Requests a second of a closed loop. Raises CannotRun where one failed."""
        try:
            return asyncio.run(self._closed(num))
        except* httpx.HTTPError as failed:
            reason = failed.exceptions[0]
        raise CannotRun(f"a request of the closed loop failed: {reason}")

    def load(self, rate: float, num: int, timeout_s: float) -> Load:
        """The open loop. At the first failure or timeout the rest is cancelled and drained."""
        due = arrivals(num, rate, self._seed)
        return Load(rate, num, asyncio.run(self._open(due, timeout_s)))

    async def _closed(self, num: int) -> float:
        waiting = iter(self._topics.questions(num, self._seed, self._rng))
        async with self._http(None) as http:

            async def client() -> None:
                for question in waiting:
                    await self._ask(http, question, time.monotonic())

            started = time.monotonic()
            async with asyncio.TaskGroup() as clients:
                for _ in range(CLIENTS):
                    clients.create_task(client())
            return num / (time.monotonic() - started)

    async def _open(self, due: Sequence[float], timeout_s: float) -> tuple[Reply, ...]:
        async with self._http(timeout_s) as http:
            questions = self._topics.questions(len(due), self._seed, self._rng)
            started = time.monotonic()

            async def ask(question: str, due_s: float) -> Reply:
                await asyncio.sleep(started + due_s - time.monotonic())
                return await self._ask(http, question, started + due_s)

            asked = zip(questions, due, strict=True)
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(ask(question, at)) for question, at in asked]
            except* httpx.HTTPError:
                pass
            else:
                return tuple(task.result() for task in tasks)
        with suppress(ExceptionGroup):  # it may be refused: the service has been overloaded
            await self._closed(1)  # waits behind what the engines still work on
        return ()

    async def _ask(self, http: httpx.AsyncClient, question: str, arrived: float) -> Reply:
        body = {"question": question, **self._options}
        response = await http.post("/v1/rag/query", json=body)
        if response.is_error:
            message = f"HTTP {response.status_code}: {response.text[:200]}"
            raise httpx.HTTPStatusError(message, request=response.request, response=response)
        data = response.json()
        seconds = time.monotonic() - arrived
        return Reply(seconds, data["timings_ms"], read(CacheReport, data["cache"]["rerank"]))

    def _http(self, timeout_s: float | None) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self._url, timeout=timeout_s, limits=httpx.Limits(max_connections=None)
        )


def arrivals(num: int, rate: float, seed: int) -> list[float]:
    """Seconds from the start. Poisson given that the next one would come after num / rate; another
    rate compresses the same pattern."""
    rng = random.Random(seed)
    gaps = [rng.expovariate(1.0) for _ in range(num + 1)]
    total, at, due = sum(gaps), 0.0, []
    for gap in gaps[:num]:
        at += gap
        due.append(at / total * num / rate)
    return due


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that is not below `share` of all (nearest rank)."""
    return sorted(values)[math.ceil(share * len(values)) - 1]
