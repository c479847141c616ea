"""Reranking with its KV in each tier, against reuse off and the floor; then over sizes.

First 20 candidates of 256 tokens with KV on the device, in DRAM, and on the SSD alone; then, warm
in DRAM, every combination of passage length, question length and number of candidates, with the
ideal beside the ratio.
"""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from actors.engine.config import DeviceTierConfig, ModelConfig, RerankerConfig
from actors.engine.rerank import RerankEngine
from kvstore.config import GIB, StoreConfig
from tests.bench.cold_store import NUM_SETS, ColdStore, cold_store
from tests.bench.engines import Bench, bench
from tests.bench.floor import Floor, FloorTimes, Work, above_floor, counted_rows, stock_model
from tests.bench.harness import Options, Result, spread, tracked
from tests.bench.rerank_reuse import (
    NUM_CANDIDATES,
    PASSAGE_TOKENS,
    QUESTION_TOKENS,
    Source,
    median_ratio,
    timed,
    words,
)
from tests.bench.rerank_sizes import QUICK, Grid, draw, sweep, texts_of

ON: tuple[Source, ...] = ("dram", "ssd", "device")
KEPT = RerankerConfig(device_tier=DeviceTierConfig(bytes=GIB, arena_share=0.5))


def run(options: Options) -> Result:
    grid = QUICK if options.quick else Grid()
    rng = random.Random(options.seed)
    with bench(ModelConfig(), StoreConfig(dram_bytes=(1 if options.quick else 4) * GIB)) as parts:
        figures, rows = _headline(parts, rng, 3 if options.quick else 12)
        points = list(sweep(parts, rng, grid))
    return Result(
        config={
            "model": asdict(ModelConfig()),
            "candidates": NUM_CANDIDATES,
            "passage_tokens": PASSAGE_TOKENS,
            "question_tokens": QUESTION_TOKENS,
            "device_tier": asdict(KEPT.device_tier),
            "grid": asdict(grid),
        },
        figures=figures,
        rows=rows + points,
        artifacts=_drawn(points, options.json_path),
    )


def _headline(
    parts: Bench, rng: random.Random, repetitions: int
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Every repetition runs all arms on one of the sets of passages, with a question of its own."""
    sets = [texts_of(parts, rng, NUM_CANDIDATES, PASSAGE_TOKENS) for _ in range(NUM_SETS)]
    off, on = parts.reranker(RerankerConfig(reuse="off")), parts.reranker()
    kept = parts.reranker(KEPT)
    for texts in tracked(sets, "computing"):
        for engine in (on, kept):
            timed(engine, words(parts.runtime.decoder, rng, QUESTION_TOKENS), texts)
    timed(off, "Is it warm?", sets[0])
    assert parts.store.flush(60)
    floor, work = _floor(parts, on, words(parts.runtime.decoder, rng, QUESTION_TOKENS), sets[0])
    seconds: dict[str, list[float]] = defaultdict(list)
    floors: list[FloorTimes] = []
    with cold_store(parts.ssd_dir, parts.store_dir) as cold:
        engines = {"dram": on, "device": kept, "ssd": _over(parts, cold)}
        for texts in sets:
            timed(engines["ssd"], "Is it full?", texts)
        for i in tracked(range(repetitions), "20 x 256"):
            texts, asked = sets[i % NUM_SETS], words(parts.runtime.decoder, rng, QUESTION_TOKENS)
            seconds["off"].append(timed(off, asked, texts))
            turn = i % len(ON)
            for source in ON[turn:] + ON[:turn]:
                if source == "ssd":
                    cold.drop_page_cache()
                seconds[source].append(timed(engines[source], asked, texts, source))
            floors.append(floor.measure())
    figures = {f"speedup_{s}_20x256": median_ratio(seconds["off"], seconds[s]) for s in ON}
    figures["above_floor_share"] = above_floor(seconds["dram"], floors)
    rows = [spread("reuse off", seconds["off"])]
    rows += [spread(f"reuse on, KV from {source}", seconds[source]) for source in ON]
    rows += _floor_rows(floors, work)
    return {name: round(value, 3) for name, value in figures.items()}, rows


def _over(parts: Bench, cold: ColdStore) -> RerankEngine:
    return RerankEngine(parts.runtime, RerankerConfig(), cold.client)


def _floor(
    parts: Bench, engine: RerankEngine, question: str, texts: Sequence[str]
) -> tuple[Floor, Work]:
    """Of one warm request, by what the engine computes and reads for it; measured once to warm."""
    with counted_rows() as counted:
        result = engine.score("bench", question, texts, timeout_s=1200)
    work = Work(
        lanes=len(texts),
        rows=-(-sum(counted.passes) // len(texts)),
        scored=QUESTION_TOKENS,
        kv_bytes=result.cache.bytes_moved,
    )
    floor = Floor(parts.runtime.decoder, stock_model(ModelConfig(), parts.runtime.decoder), work)
    floor.measure()
    return floor, work


def _floor_rows(floors: Sequence[FloorTimes], work: Work) -> list[dict[str, Any]]:
    size = f"{work.lanes} x {work.rows} rows"
    return [
        spread("floor: all of it", [f.total for f in floors]),
        spread(f"floor: {size} without past, transformers", [f.stock for f in floors]),
        spread(f"floor: {size} without past, our decoder", [f.decoder for f in floors]),
        spread(f"floor: head on {work.lanes * work.scored} rows", [f.head for f in floors]),
        spread(f"floor: copy of {work.kv_bytes / 1e6:.0f} MB of KV", [f.copy for f in floors]),
    ]


def _drawn(points: Sequence[dict[str, Any]], json_path: str | None) -> list[str]:
    if json_path is None:
        return []
    path = Path(json_path).with_suffix(".png")
    draw(points, path)
    return [path.name]
