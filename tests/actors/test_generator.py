"""The generator's shell over a real shard on a real local Ray."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from actors.engine.config import (
    EngineConfig,
    FusionConfig,
    GeneratorConfig,
    ModelConfig,
    PromptConfig,
)
from actors.errors import ExpiredError
from actors.generator import Generator
from actors.messages import (
    FusedSegment,
    FuseRequest,
    GenerateChunk,
    GenerateRequest,
    Message,
    Neighbourhood,
    Sampling,
)
from actors.shard_start import ensure_shard, stop_shard
from actors.store_client import RayStoreClient
from kvstore.config import StoreConfig
from kvstore.keys import neighbours_digest
from tests.actors.engine.texts import PASSAGES, QUESTIONS

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture
def store(cluster: None, tmp_path: Path) -> Iterator[StoreConfig]:
    """DRAM for about three passages in fp32, SSD for all."""
    config = StoreConfig(
        dram_bytes=20 * 2**20,
        policy="lookahead_lru",
        dram_dir=str(tmp_path),
        ssd_dir=str(tmp_path / "ssd"),
        ssd_bytes=2**30,
    )
    yield config
    stop_shard(ensure_shard(config))


@pytest.fixture
def generator(store: StoreConfig, tmp_path: Path) -> Generator:
    """One place in the batch: who comes second waits."""
    return Generator(
        ModelConfig(dtype="float32"),
        PromptConfig(),
        EngineConfig(),
        GeneratorConfig(max_batch=1),
        store,
        str(tmp_path / "run"),
    )


@pytest.fixture
def client(store: StoreConfig) -> Iterator[RayStoreClient]:
    client = RayStoreClient(store)
    yield client
    client.close()


def request(
    question: str, *texts: str, max_tokens: int = 4, timeout_s: float = 60
) -> GenerateRequest:
    message = Message("user", question)
    return GenerateRequest("r", "t", (message,), texts, Sampling(max_tokens), timeout_s)


async def answered(generator: Generator, asked: GenerateRequest) -> tuple[str, GenerateChunk]:
    text = ""
    async for chunk in generator.generate(asked):
        text += chunk.text
    return text, chunk


async def on_ssd(client: RayStoreClient) -> None:
    """What was computed has been written."""
    async with asyncio.timeout(10):
        while (await asyncio.to_thread(client.stats)).ssd.write_queue:
            await asyncio.sleep(0.02)


async def test_what_a_waiting_request_needs_is_read_ahead(
    generator: Generator, client: RayStoreClient
) -> None:
    """Segments that DRAM has lost are there again before the request gets its place."""
    wanted = request(QUESTIONS[0], PASSAGES[0])
    alone, _ = await answered(generator, wanted)
    await on_ssd(client)
    for passage in PASSAGES[1:5]:
        await answered(generator, request(QUESTIONS[1], passage))
        await on_ssd(client)
    before = await asyncio.to_thread(client.stats)
    _, (text, last) = await asyncio.gather(
        answered(generator, request(QUESTIONS[1], PASSAGES[4], max_tokens=60)),
        answered(generator, wanted),
    )
    after = await asyncio.to_thread(client.stats)
    assert text == alone
    assert last.cache is not None and (last.cache.dram_hits, last.cache.computed) == (2, 0)
    assert after.prefetch_reads == before.prefetch_reads + 1
    assert after.prefetch_used == before.prefetch_used + 1, "there in time, and retired after that"


async def test_who_leaves_or_expires_while_waiting_needs_nothing_more(
    generator: Generator, client: RayStoreClient
) -> None:
    busy = asyncio.create_task(
        answered(generator, request(QUESTIONS[0], PASSAGES[0], max_tokens=60))
    )
    async with asyncio.timeout(30):
        while not (await generator.status())["active"]:
            await asyncio.sleep(0.01)
    leaves = asyncio.create_task(answered(generator, request(QUESTIONS[1], PASSAGES[1])))
    expires = asyncio.create_task(
        answered(generator, request(QUESTIONS[1], PASSAGES[2], timeout_s=0.05))
    )
    await asyncio.sleep(0.1)
    leaves.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaves
    await busy
    with pytest.raises((ExpiredError, TimeoutError)):
        await expires
    async with asyncio.timeout(30):
        while (status := await generator.status())["waiting"]:
            await asyncio.sleep(0.01)
    assert (status["requests"], status["segments_computed"]) == (1, 2)


async def test_fused_segments_are_made_while_answers_stream(
    store: StoreConfig, tmp_path: Path
) -> None:
    generator = Generator(
        ModelConfig(dtype="float32"),
        PromptConfig(),
        EngineConfig(),
        GeneratorConfig(mode="fusion", fusion=FusionConfig(ratio=0)),
        store,
        str(tmp_path / "run"),
    )
    made = tuple(Neighbourhood(PASSAGES[i], tuple(PASSAGES[i + 1 : i + 3])) for i in range(2))
    asked = request(QUESTIONS[0], *PASSAGES[:2], max_tokens=40)
    (raw, _), report = await asyncio.gather(
        answered(generator, asked), generator.fuse(FuseRequest("t", made, 60))
    )
    assert report.computed == 2
    digests = tuple(neighbours_digest(one.neighbours) for one in made)
    fused, last = await answered(generator, replace(asked, neighbours=digests))
    assert last.cache is not None and last.cache.computed == 0
    assert fused != raw, "another segment, another answer"
    segments = tuple(map(FusedSegment, PASSAGES[:2], digests))
    assert await generator.forget("t", (), segments) == 2
    with pytest.raises(ExpiredError):
        await generator.fuse(FuseRequest("t", made, 0.0))
