"""Time to first token inside the generator: reuse against full prefill.

A prompt of 4,096 and one of 2,048 tokens, a question of 32 at its end, everything cached: exact
prefixes from DRAM and from the SSD alone, and passages in another order than they were computed in
(fusion), of whose tokens 15, 5 and 0 % are computed again by the default rule. All online work
counts: loading, turning, choosing, computing, the first token.
"""

import random
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from actors.engine.config import FusionConfig, GeneratorConfig, ModelConfig, PromptConfig
from actors.engine.generate import GenerateEngine
from actors.messages import GenerateRequest, Message, Sampling
from kvstore.config import GIB, StoreConfig
from tests.bench.cold_store import NUM_SETS, cold_store
from tests.bench.engines import Bench, bench
from tests.bench.harness import Options, Result, spread, tracked
from tests.bench.rerank_reuse import words

SIZES = (4096, 2048)
PASSAGES = {4096: 15, 2048: 7}
QUESTION_TOKENS = 32
RATIOS = {"r15": 0.15, "r05": 0.05, "r00": 0.0}
FUSED = 4096
"""The size that fusion is measured at."""


def run(options: Options) -> Result:
    repetitions = 3 if options.quick else 9
    figures: dict[str, float] = {}
    rows: list[dict[str, Any]] = []
    for size in SIZES:
        with bench(ModelConfig(), StoreConfig(dram_bytes=4 * GIB)) as parts:
            seconds = _measure(parts, size, repetitions, random.Random(options.seed))
        full = seconds.pop("full")
        rows.append({"tokens": size, **spread("full prefill", full), "ratio": 1.0})
        for arm, own in seconds.items():
            ratio = statistics.median(f / o for f, o in zip(full, own, strict=True))
            figures[f"{arm}_{size}"] = round(ratio, 3)
            rows.append({"tokens": size, **spread(arm, own), "ratio": round(ratio, 2)})
    config = {
        "model": asdict(ModelConfig()),
        "fusion": asdict(FusionConfig()),
        "passages": PASSAGES,
        "question_tokens": QUESTION_TOKENS,
    }
    return Result(config, figures, rows)


def _measure(
    parts: Bench, size: int, repetitions: int, rng: random.Random
) -> dict[str, list[float]]:
    """Every repetition runs all arms on one of the sets of passages, with a question of its own."""
    sets = [_passages(parts, rng, size) for _ in range(NUM_SETS)]
    engines = {"full": parts.generator(_config("full")), "prefix_dram": parts.generator(_config())}
    if size == FUSED:
        for name, ratio in RATIOS.items():
            fusion = FusionConfig(ratio=ratio)
            engines[f"fusion_{name}"] = parts.generator(_config("fusion", fusion))
    for passages in sets:
        _ttft(parts, engines["prefix_dram"], passages, rng)
    assert parts.store.flush(60)
    seconds: dict[str, list[float]] = defaultdict(list)
    with cold_store(parts.ssd_dir, parts.store_dir) as cold:
        engines["prefix_ssd"] = GenerateEngine(parts.runtime, _config(), cold.client)
        for engine in engines.values():
            for passages in sets:
                _ttft(parts, engine, passages, rng)
        for i in tracked(range(repetitions), f"{size} tokens"):
            for name, engine in engines.items():
                passages = sets[i % NUM_SETS]
                if name == "prefix_ssd":
                    cold.drop_page_cache()
                if name.startswith("fusion"):
                    passages = rng.sample(passages, len(passages))
                seconds[name].append(_ttft(parts, engine, passages, rng))
    return seconds


def _config(mode: str = "prefix", fusion: FusionConfig | None = None) -> GeneratorConfig:
    return GeneratorConfig(
        mode=mode,  # type: ignore[arg-type]
        fusion=fusion or FusionConfig(),
        max_context_tokens=max(SIZES) + 512,
    )


def _passages(parts: Bench, rng: random.Random, size: int) -> list[str]:
    """As many tokens as make the prompt `size` long with its question, or a few less."""
    prompt, num = parts.runtime.prompt, PASSAGES[size]
    prefix, _, tail = prompt.conversation([Message("user", "")])
    around = len(prompt.passage(""))
    each = (size - len(prefix) - len(tail) - QUESTION_TOKENS) // num - around
    assert each <= PromptConfig().max_passage_tokens
    return [words(parts.runtime.decoder, rng, each) for _ in range(num)]


def _ttft(
    parts: Bench, engine: GenerateEngine, passages: Sequence[str], rng: random.Random
) -> float:
    question = words(parts.runtime.decoder, rng, QUESTION_TOKENS)
    request = GenerateRequest(
        "bench", "bench", (Message("user", question),), tuple(passages), Sampling(), 600
    )
    start = time.perf_counter()
    engine.start(request, time.monotonic() + 600)
    return time.perf_counter() - start
