"""Device tiers of four reranker replicas as one cache: requests split by rendezvous, and the same
requests sent whole to a replica at random.

Real engines with real device tiers over one store, in this process: what is counted, hits, does not
depend on where they run. Passages are short, so that a corpus four times a tier is quickly ranked.
"""

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

from actors.engine.config import DeviceTierConfig, ModelConfig, RerankerConfig
from actors.engine.rerank import RerankEngine
from actors.messages import CacheReport
from cluster.remote_reranker import CHANCE
from cluster.splitting import split
from kvstore.config import GIB, StoreConfig
from kvstore.local import LocalStoreClient
from tests.bench.engines import Bench, bench
from tests.bench.harness import tracked

REPLICAS = ("r0", "r1", "r2", "r3")
CANDIDATES = 20
ROOM = 64
"""Passages that one tier holds."""
CORPUS = len(REPLICAS) * ROOM
ACCESS = {"uniform": 0.0, "zipf 0.6": 0.6, "zipf 0.8": 0.8, "zipf 1.0": 1.0}


def measure(num_requests: int, seed: int) -> list[dict[str, Any]]:
    """For every kind of access, the share of segments that device tiers had."""
    rows: list[dict[str, Any]] = []
    texts = [f"The {n}th bridge crosses river {7 * n}." for n in range(CORPUS)]
    with bench(ModelConfig(), StoreConfig(dram_bytes=GIB)) as parts:
        nbytes = _passage_bytes(parts, texts)
        tier = DeviceTierConfig(ROOM * nbytes, arena_share=0.5, policy="lru")
        for access, exponent in ACCESS.items():
            rng = random.Random(seed)
            weights = [1 / (rank + 1) ** exponent for rank in range(CORPUS)]
            asked = [_drawn(rng, texts, weights) for _ in range(num_requests)]
            hits = {
                how: _hit_ratio(parts, tier, asked, how == "split", rng)
                for how in ("split", "random")
            }
            gain = round(hits["split"] / hits["random"], 3)
            rows.append(
                {"access": access, **{h: round(v, 4) for h, v in hits.items()}, "gain": gain}
            )
    return rows


def _passage_bytes(parts: Bench, texts: Sequence[str]) -> int:
    """Of one passage's segments in the store, which has all of them from now on."""
    engine = parts.reranker()
    engine.precompute("bench", tuple(texts), 600)
    engine.score("bench", "Which?", texts[:CANDIDATES], 600)
    return parts.store.stats().dram.used_bytes // len(texts)


def _drawn(rng: random.Random, texts: Sequence[str], weights: Sequence[float]) -> list[str]:
    """Different passages."""
    drawn: dict[str, None] = {}
    while len(drawn) < CANDIDATES:
        drawn |= dict.fromkeys(rng.choices(texts, weights, k=CANDIDATES - len(drawn)))
    return list(drawn)


def _hit_ratio(
    parts: Bench, tier: DeviceTierConfig, asked: list[list[str]], is_split: bool, rng: random.Random
) -> float:
    """Of the second half of the requests: the first fills the tiers."""
    config = RerankerConfig(device_tier=tier)
    clients = {name: LocalStoreClient(parts.store, parts.store_dir) for name in REPLICAS}
    engines = {name: RerankEngine(parts.runtime, config, clients[name]) for name in REPLICAS}
    total = CacheReport()
    for i, texts in enumerate(tracked(asked, "split" if is_split else "random")):
        report = CacheReport()
        for name, own in _routed(texts, is_split, rng):
            report += _scored(engines[name], own)
        if i >= len(asked) // 2:
            total += report
    for client in clients.values():
        client.close()
    return total.device_hits / (total.hits + total.computed)


def _routed(texts: list[str], is_split: bool, rng: random.Random) -> list[tuple[str, list[str]]]:
    if not is_split:
        return [(rng.choice(REPLICAS), texts)]
    parts = split(texts, REPLICAS, Counter(), CHANCE)
    return [(part.replicas[0], [texts[i] for i in part.indices]) for part in parts]


def _scored(engine: RerankEngine, texts: list[str]) -> CacheReport:
    return engine.score("bench", "Which?", texts, 600).cache
