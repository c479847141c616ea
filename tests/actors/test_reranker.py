"""The reranker's shell over a real shard on a real local Ray."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from actors.engine.config import (
    DeviceTierConfig,
    EngineConfig,
    ModelConfig,
    PromptConfig,
    RerankerConfig,
)
from actors.errors import OverloadedError, RequestError
from actors.messages import PrecomputeRequest, RerankRequest, RerankResult
from actors.reranker import Reranker
from actors.shard_start import ensure_shard, stop_shard
from actors.work_meter import ARRIVED, BUSY_S, COMPLETED, WAITING
from kvstore.config import StoreConfig
from kvstore.types import StoreStats
from tests.actors.engine.texts import PASSAGES, QUESTIONS

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture
def store(cluster: None, tmp_path: Path) -> Iterator[StoreConfig]:
    """DRAM for about four passages in fp32, SSD for all."""
    config = StoreConfig(
        dram_bytes=24 * 2**20,
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


async def stats_of(store: StoreConfig) -> StoreStats:
    """Of the node's shard."""
    async with asyncio.timeout(30):
        stats: StoreStats = await ensure_shard(store).stats.remote()
        return stats


async def on_ssd(store: StoreConfig) -> None:
    """What was computed has been written."""
    async with asyncio.timeout(10):
        while (await stats_of(store)).ssd.write_queue:
            await asyncio.sleep(0.02)


async def test_what_waiting_requests_need_is_read_ahead(store: StoreConfig, tmp_path: Path) -> None:
    """Passages that DRAM has lost come back while another question is computed."""
    reranker = made(store, tmp_path, batch_latency_s=0.0)
    for passage in PASSAGES:
        await reranker.precompute(PrecomputeRequest("t", (passage,), 60))
        await on_ssd(store)
    alone = await reranker.rerank(request(QUESTIONS[0], PASSAGES[0], PASSAGES[1]))
    for passage in PASSAGES[2:]:
        await reranker.precompute(PrecomputeRequest("t", (passage,), 60))
    before = (await stats_of(store)).prefetch_reads
    new = [f"{i}. {passage}" for i, passage in enumerate(PASSAGES[2:4])]
    _, queued = await asyncio.gather(
        reranker.rerank(request(QUESTIONS[1], *new)),
        reranker.rerank(request(QUESTIONS[0], PASSAGES[0], PASSAGES[1])),
    )
    # Not to the bit: what arrives late is scored in a pass of its own.
    assert queued.log_likelihoods == pytest.approx(alone.log_likelihoods, abs=1e-3)
    assert queued.cache.computed == 0
    stats = await stats_of(store)
    assert stats.prefetch_reads > before, "while the first was computed"
    assert stats.prefetch_used + stats.prefetch_late >= 1


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
    metered = reranker.record_autoscaling_stats()
    assert (metered[ARRIVED], metered[COMPLETED], metered[WAITING]) == (5, 1, 0), "in passages"
    assert metered[BUSY_S] > 0


async def test_what_is_kept_is_not_asked_for_and_a_killed_shard_changes_no_score(
    store: StoreConfig, tmp_path: Path
) -> None:
    """Half of the arena holds one passage for sure."""
    kept = DeviceTierConfig(2**30, arena_share=0.5)
    reranker = made(store, tmp_path, device_tier=kept)
    cold = await reranker.rerank(request(QUESTIONS[0], PASSAGES[0]))
    await on_ssd(store)
    before = await stats_of(store)
    warm = await reranker.rerank(request(QUESTIONS[0], PASSAGES[0]))
    assert (warm.cache.device_hits, warm.cache.computed) == (1, 0)
    status = await reranker.status()
    assert await stats_of(store) == before and before.leases == 1
    assert (status["device_hits"], status["device_tier"]["num_segments"]) == (1, 3)
    ray.kill(ensure_shard(store), no_restart=False)
    lost = await reranker.rerank(request(QUESTIONS[0], PASSAGES[0]))
    await stats_of(store)  # it has restarted
    back = await reranker.rerank(request(QUESTIONS[0], PASSAGES[0]))
    assert back.cache.ssd_hits == 1, "the former arena is gone, what it kept there too"
    for result in (warm, lost, back):
        assert result.log_likelihoods == cold.log_likelihoods


async def test_what_waits_shares_a_batch_within_the_latency_budget(
    store: StoreConfig, tmp_path: Path
) -> None:
    """The first batch of each engine is of one request: nothing is known of its speed yet."""
    asked = [request(question, *PASSAGES[:2]) for question in QUESTIONS[:3]]
    results = []
    for budget_s in (60.0, 0.0):
        reranker = made(store, tmp_path, batch_latency_s=budget_s)
        await reranker.rerank(asked[0])
        results.append(await asyncio.gather(*(reranker.rerank(one) for one in asked)))
        status = await reranker.status()
        assert (status["waiting"], status["requests"]) == (0, 4)
        assert status["batches"] < 4 if budget_s else status["batches"] == 4
    for together, alone in zip(*results, strict=True):
        assert together.log_likelihoods == pytest.approx(alone.log_likelihoods, abs=1e-3)


async def test_a_bad_request_in_a_batch_fails_alone(store: StoreConfig, tmp_path: Path) -> None:
    reranker = made(store, tmp_path, batch_latency_s=60.0)
    await reranker.rerank(request(QUESTIONS[0], PASSAGES[0]))
    asked = [request(QUESTIONS[0], PASSAGES[0]), request(" ", PASSAGES[0]), request("why?")]
    results = await asyncio.gather(*(reranker.rerank(one) for one in asked), return_exceptions=True)
    assert isinstance(results[1], RequestError)
    assert isinstance(results[0], RerankResult) and len(results[0].log_likelihoods) == 1
    assert isinstance(results[2], RerankResult) and results[2].log_likelihoods == ()
