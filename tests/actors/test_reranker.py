"""The reranker's shell over a real shard on a real local Ray."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.engine.config import EngineConfig, ModelConfig, PromptConfig, RerankerConfig
from actors.errors import OverloadedError, RequestError
from actors.messages import PrecomputeRequest, RerankRequest
from actors.reranker import Reranker
from actors.shard import ensure_shard, stop_shard
from kvstore.config import StoreConfig
from tests.actors.engine.texts import PASSAGES, QUESTIONS

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture
def store(cluster: None, tmp_path: Path) -> Iterator[StoreConfig]:
    """DRAM for about three passages in fp32, SSD for all."""
    config = StoreConfig(
        dram_bytes=28 * 2**20,
        policy="lookahead_lru",
        dram_dir=str(tmp_path),
        ssd_dir=str(tmp_path / "ssd"),
        ssd_bytes=2**30,
    )
    yield config
    stop_shard(ensure_shard(config))


def made(store: StoreConfig, tmp_path: Path, **settings: Any) -> Reranker:
    return Reranker(
        ModelConfig(dtype="float32"),
        PromptConfig(),
        EngineConfig(),
        RerankerConfig(**settings),
        store,
        str(tmp_path / "run"),
    )


def request(question: str, *texts: str) -> RerankRequest:
    return RerankRequest("r", "t", question, texts, 60)


async def on_ssd(reranker: Reranker) -> None:
    """What was computed has been written."""
    async with asyncio.timeout(10):
        while (await reranker.status())["store"]["ssd"]["write_queue"]:
            await asyncio.sleep(0.02)


async def test_what_waiting_requests_need_is_read_ahead(store: StoreConfig, tmp_path: Path) -> None:
    """Passages that DRAM has lost come back while another question is computed."""
    reranker = made(store, tmp_path)
    for passage in PASSAGES:
        await reranker.precompute(PrecomputeRequest("t", (passage,), 60))
        await on_ssd(reranker)
    alone = await reranker.rerank(request(QUESTIONS[0], PASSAGES[0], PASSAGES[1]))
    for passage in PASSAGES[2:]:
        await reranker.precompute(PrecomputeRequest("t", (passage,), 60))
    before = (await reranker.status())["store"]["prefetch_reads"]
    new = [f"{i}. {passage}" for i, passage in enumerate(PASSAGES[2:4])]
    _, queued = await asyncio.gather(
        reranker.rerank(request(QUESTIONS[1], *new)),
        reranker.rerank(request(QUESTIONS[0], PASSAGES[0], PASSAGES[1])),
    )
    assert queued.log_likelihoods == alone.log_likelihoods and queued.cache.computed == 0
    stats = (await reranker.status())["store"]
    assert stats["prefetch_reads"] > before, "while the first was computed"
    assert stats["prefetch_used"] + stats["prefetch_late"] >= 1


async def test_refusals_leave_nothing_waiting(store: StoreConfig, tmp_path: Path) -> None:
    reranker = made(store, tmp_path, max_waiting=2, max_candidates=2)
    asked = [
        request(QUESTIONS[0], PASSAGES[0]),
        request(" ", PASSAGES[1]),
        request(QUESTIONS[1], *PASSAGES[:3]),
    ]
    results = await asyncio.gather(*(reranker.rerank(one) for one in asked), return_exceptions=True)
    assert [type(r) for r in results[1:]] == [RequestError, OverloadedError]
    status = await reranker.status()
    assert (status["waiting"], status["requests"], status["segments_computed"]) == (0, 1, 1)
