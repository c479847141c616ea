"""The pipeline over parts that fail on purpose: retries, deadlines, order."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from actors.errors import ExpiredError, UnavailableError
from actors.messages import (
    Document,
    Found,
    GenerateChunk,
    GenerateRequest,
    Message,
    RerankRequest,
    RerankResult,
    Sampling,
    SearchRequest,
    SearchResult,
)
from cluster.deadline import Limits
from cluster.errors import NotFoundError, ReplicaLostError
from cluster.ingress.config import IngressConfig
from cluster.outcome import order
from cluster.pipeline import Pipeline
from cluster.query import Answer, Query, Retrieval
from cluster.services import Services
from tests.cluster.near import NearGenerator, near_services
from tests.cluster.parts import passage

QUERY = Query(
    "r1",
    "t",
    Retrieval("c", "is the sky blue", 20, 1, 256, 2),
    (Message("user", "is the sky blue"),),
    Sampling(),
)


@pytest.fixture
async def services(tmp_path: Path) -> Services:
    services = near_services(tmp_path)
    await services.corpus.ingest("t", "c", [Document("sky", "the sky is blue")], 5)
    await services.retriever.refresh("t", "c", 1, 5)
    return services


class Dying:
    """Reranker and generator that are lost `times` times; `words` leave before."""

    def __init__(self, inner: Services, times: int, words: int = 0) -> None:
        self._inner, self._times, self._words = inner, times, words
        self.timeouts: list[float] = []

    def _maybe_die(self) -> None:
        self._times -= 1
        if self._times >= 0:
            raise ReplicaLostError("part", "killed")

    async def rerank(self, request: RerankRequest) -> RerankResult:
        self.timeouts.append(request.timeout_s)
        self._maybe_die()
        return await self._inner.reranker.rerank(request)

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[GenerateChunk]:
        for _ in range(self._words):
            yield GenerateChunk("the ")
        self._maybe_die()
        async for chunk in self._inner.generator.generate(request):
            yield chunk


class Slow:
    async def search(self, request: SearchRequest) -> SearchResult:
        await asyncio.sleep(30)
        raise AssertionError("was not cancelled")


async def run(services: Services, timeout_s: float = 10.0, query: Query = QUERY) -> Answer:
    limits = Limits(IngressConfig(request_timeout_s=timeout_s))
    events = [event async for event in Pipeline(services, 1.5, limits).answer(query)]
    assert isinstance(events[-1], Answer)
    return events[-1]


def with_part(services: Services, name: str, part: Any) -> Services:
    return replace(services, **{name: part})


@pytest.mark.parametrize("part", ["reranker", "generator"])
async def test_a_lost_replica_is_asked_for_once_more(services: Services, part: str) -> None:
    answer = await run(with_part(services, part, Dying(services, times=1)))
    assert answer.text == "the sky is blue "


@pytest.mark.parametrize("part", ["reranker", "generator"])
async def test_a_second_loss_is_unavailable(services: Services, part: str) -> None:
    with pytest.raises(UnavailableError, match="try again"):
        await run(with_part(services, part, Dying(services, times=2)))


async def test_one_retry_per_request_not_per_stage(services: Services) -> None:
    parts = with_part(services, "reranker", Dying(services, times=1))
    parts = with_part(parts, "generator", Dying(services, times=1))
    with pytest.raises(UnavailableError):
        await run(parts)


async def test_no_retry_after_a_word_has_left(services: Services) -> None:
    parts = with_part(services, "generator", Dying(services, times=1, words=1))
    with pytest.raises(UnavailableError, match="broke off"):
        await run(parts)


async def test_a_stage_gets_what_is_left_of_the_time(services: Services) -> None:
    dying = Dying(services, times=1)
    await run(with_part(services, "reranker", dying), timeout_s=5.0)
    first, second = dying.timeouts
    assert 0 < second < first - 0.1 < 5.0


async def test_a_slow_stage_is_cancelled_at_the_deadline(services: Services) -> None:
    with pytest.raises(ExpiredError, match="search"):
        await run(with_part(services, "retriever", Slow()), timeout_s=0.2)


async def test_a_collection_that_does_not_exist_is_named(services: Services) -> None:
    retrieval = Retrieval("none", "sky", 20, 1, 256, 2)
    with pytest.raises(NotFoundError, match="'none' has no documents"):
        await run(services, query=replace(QUERY, retrieval=retrieval))


async def test_no_hits_are_an_answer_without_sources(services: Services) -> None:
    await services.corpus.delete("t", "c", ["sky"], 5)
    await services.retriever.refresh("t", "c", 2, 5)
    answer = await run(services)
    assert answer.sources == ()
    assert answer.text == "is the sky blue "


async def test_a_stream_that_stops_early_is_unavailable(services: Services) -> None:
    class Half:
        async def generate(self, request: GenerateRequest) -> AsyncGenerator[GenerateChunk]:
            yield GenerateChunk("the ")

    with pytest.raises(UnavailableError, match="could not finish"):
        await run(with_part(services, "generator", Half()))


async def test_the_generator_is_told_which_fused_segments_there_are(services: Services) -> None:
    class Fused:
        async def search(self, request: SearchRequest) -> SearchResult:
            texts = ("the sky is blue", "the grass is green")
            found = [Found(passage(t, t), 0.5, d) for t, d in zip(texts, (b"", b"x"), strict=True)]
            return SearchResult(1, tuple(found))

    for part, expected in ((Fused(), (b"", b"x")), (services.retriever, ())):
        query = replace(QUERY, retrieval=Retrieval("c", "is the sky blue", 20, 2, 256, 2))
        await run(with_part(services, "retriever", part), 10.0, query)
        assert isinstance(services.generator, NearGenerator)
        assert services.generator.requests[-1].neighbours == expected


def test_order_adds_the_weighted_cosine_and_is_stable() -> None:
    found = [Found(passage(name, name), cosine) for name, cosine in (("a", 0.2), ("b", 0.8))]
    assert [s.passage.text for _, s in order(found, [-1.0, -1.5], 0.0)] == ["a", "b"]
    assert [s.passage.text for _, s in order(found, [-1.0, -1.5], 1.5)] == ["b", "a"]
    assert [s.passage.text for _, s in order([found[0], found[0]], [-1.0, -1.0], 1.0)] == ["a", "a"]
    assert order(found, [-1.0, -1.5], 1.5)[0][1].score == pytest.approx(-0.3)
