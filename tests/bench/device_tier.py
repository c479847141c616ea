"""What asking the store costs: warm requests with the device tier of a CPU off and on.

The store is the node's shard behind its actor, as in service: a hit in DRAM is a call to acquire
and one to release; what the tier kept is no call.
"""

import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import ray

from actors.engine.config import (
    DeviceTierConfig,
    EngineConfig,
    ModelConfig,
    PromptConfig,
    RerankerConfig,
)
from actors.engine.rerank import RerankEngine
from actors.engine.runtime import Runtime, load_runtime
from actors.shard_start import ensure_shard, stop_shard
from actors.store_client import RayStoreClient
from kvstore.config import GIB, StoreConfig
from tests.bench.harness import Options, Result, paired, spread
from tests.bench.rerank_reuse import NUM_CANDIDATES, PASSAGE_TOKENS, QUESTION_TOKENS, words

TIER = DeviceTierConfig(bytes=GIB, arena_share=0.25)


def run(options: Options) -> Result:
    few, many = (5, 100) if options.quick else (20, 300)
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="hyperrag-bench-") as folder, _shard() as store:
        runtime = load_runtime(ModelConfig(), PromptConfig(), EngineConfig(), folder)
        off = _engine(runtime, store, RerankerConfig())
        on = _engine(runtime, store, RerankerConfig(device_tier=TIER))
        texts = [words(runtime.decoder, rng, PASSAGE_TOKENS) for _ in range(NUM_CANDIDATES)]
        question = words(runtime.decoder, rng, QUESTION_TOKENS)
        for engine in (off, on):
            engine.score("bench", question, texts, 120)
        leases = paired(_leases(off, texts), _leases(on, texts), many)
        single = paired(_leases(off, texts[:1]), _leases(on, texts[:1]), many)
        reranks = paired(_reranks(off, question, texts), _reranks(on, question, texts), few)
        kept = on.score("bench", question, texts, 120).cache
        assert (kept.device_hits, kept.computed) == (NUM_CANDIDATES, 0)
    return Result(
        config={"candidates": NUM_CANDIDATES, "passage_tokens": PASSAGE_TOKENS, "tier": str(TIER)},
        figures={
            "lease_20_dram_ms": _median_ms(leases[0]),
            "lease_20_kept_ms": _median_ms(leases[1]),
            "lease_1_dram_ms": _median_ms(single[0]),
            "lease_1_kept_ms": _median_ms(single[1]),
            "rerank_20x256_ratio": round(
                statistics.median(a / b for a, b in zip(*reranks, strict=True)), 3
            ),
        },
        rows=[
            spread("lease of 20 paths, DRAM", leases[0]),
            spread("lease of 20 paths, kept", leases[1]),
            spread("lease of 1 path, DRAM", single[0]),
            spread("lease of 1 path, kept", single[1]),
            spread("rerank 20x256, DRAM", reranks[0]),
            spread("rerank 20x256, kept", reranks[1]),
        ],
    )


@contextmanager
def _shard() -> Iterator[StoreConfig]:
    store = StoreConfig(ssd_dir="")
    ray.init(
        address="local",
        num_cpus=2,
        object_store_memory=10**8,
        include_dashboard=False,
        log_to_driver=False,
    )
    try:
        yield store
        stop_shard(ensure_shard(store))
    finally:
        ray.shutdown()


def _engine(runtime: Runtime, store: StoreConfig, config: RerankerConfig) -> RerankEngine:
    return RerankEngine(runtime, config, RayStoreClient(store))


def _leases(engine: RerankEngine, texts: list[str]) -> Callable[[], float]:
    """Seconds of obtaining, checking and giving back what is stored already."""

    def once() -> float:
        start = time.perf_counter()
        engine.precompute("bench", texts, 60)
        return time.perf_counter() - start

    return once


def _reranks(engine: RerankEngine, question: str, texts: list[str]) -> Callable[[], float]:
    def once() -> float:
        start = time.perf_counter()
        engine.score("bench", question, texts, 120)
        return time.perf_counter() - start

    return once


def _median_ms(seconds: list[float]) -> float:
    return round(statistics.median(seconds) * 1000, 2)
