"""Questions at a rate, whatever becomes of those before, and a watch over the GPUs meanwhile."""

import asyncio
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.cluster.autoscaling.pace import PASSAGES, held

SAMPLE_S = 0.1
GROUPS = 30
"""Of passages: a question is about one of a group, and ranks the group. Questions about the same
would all go to the same replica, as they should."""
ANSWER_S = 110.0
ANSWER_TOKENS = 4


@dataclass(frozen=True, slots=True)
class Mix:
    """Seconds of a GPU per question, and questions per second."""

    rank_s: float
    write_s: float
    rate: float


@dataclass(frozen=True, slots=True)
class Answer:
    sent: float
    """Monotonic times."""
    ended: float
    status: int
    """Of HTTP; 0 when the connection failed."""


def ingest(url: str) -> None:
    """The groups."""
    documents = [
        {"id": f"{g}-{n}", "text": f"group{g} item{n}"}
        for g in range(GROUPS)
        for n in range(PASSAGES)
    ]
    response = httpx.post(f"{url}/v1/documents", json={"documents": documents}, timeout=60)
    response.raise_for_status()


async def ask(url: str, mix: Mix, seconds: float, seed: int) -> list[Answer]:
    """Poisson arrivals for so long; returns when all are answered."""
    draw = random.Random(seed)
    async with httpx.AsyncClient(base_url=url, timeout=ANSWER_S) as http:
        asked, end = [], time.monotonic() + seconds
        while (gap := draw.expovariate(mix.rate)) < end - time.monotonic():
            await asyncio.sleep(gap)
            about = f"group{draw.randrange(GROUPS)} item{draw.randrange(PASSAGES)}"
            asked.append(asyncio.create_task(_answer(http, mix, about)))
        return await asyncio.gather(*asked)


async def _answer(http: httpx.AsyncClient, mix: Mix, about: str) -> Answer:
    question = f"{about} rank={mix.rank_s} write={mix.write_s}"
    limits = {"top_n": PASSAGES, "top_k": 1, "max_tokens": ANSWER_TOKENS}
    sent, status = time.monotonic(), 0
    try:
        response = await http.post("/v1/rag/query", json={"question": question, **limits})
        status = response.status_code
    except httpx.HTTPError:
        pass
    return Answer(sent, time.monotonic(), status)


@dataclass(slots=True)
class Watch:
    """`(time, reranker, generator)` processes that hold a GPU, every tenth of a second."""

    samples: list[tuple[float, int, int]] = field(default_factory=list)

    def since(self, start: float, rerank: int, generate: int) -> float | None:
        """Seconds until both were so many; None when they never were."""
        return next(
            (t - start for t, r, g in self.samples if t >= start and (r, g) == (rerank, generate)),
            None,
        )


@contextmanager
def watching(run_dir: Path) -> Iterator[Watch]:
    watch, done = Watch(), threading.Event()

    def look() -> None:
        while not done.wait(SAMPLE_S):
            now = held(run_dir)
            watch.samples.append((time.monotonic(), now["rerank"], now["generate"]))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield watch
    finally:
        done.set()
        thread.join()
