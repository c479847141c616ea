"""Warm reranking against the same code with reuse off: 20 candidates of 256 tokens."""

import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Literal

from actors.engine.config import ModelConfig, RerankerConfig
from actors.engine.models import Decoder
from actors.engine.rerank import RerankEngine
from tests.bench.engines import bench
from tests.bench.harness import Options, Result, paired, spread

NUM_CANDIDATES = 20
PASSAGE_TOKENS = 256
QUESTION_TOKENS = 24
Source = Literal["device", "dram", "ssd"]
"""Where all KV of a request is read from."""


def run(options: Options) -> Result:
    repetitions = 5 if options.quick else 15
    rng = random.Random(options.seed)
    with bench(ModelConfig()) as parts:
        off = parts.reranker(RerankerConfig(reuse="off"))
        on = parts.reranker(RerankerConfig(reuse="on"))
        texts = [words(parts.runtime.decoder, rng, PASSAGE_TOKENS) for _ in range(NUM_CANDIDATES)]
        questions = [
            words(parts.runtime.decoder, rng, QUESTION_TOKENS) for _ in range(repetitions + 1)
        ]
        cold = timed(on, questions[0], texts)
        timed(off, questions[0], texts)
        full, reused = off_and_warm(off, on, questions[1:], texts)
        stats = parts.store.stats()
    return Result(
        config={
            "model": asdict(ModelConfig()),
            "candidates": NUM_CANDIDATES,
            "passage_tokens": PASSAGE_TOKENS,
            "question_tokens": QUESTION_TOKENS,
            "dram_hits": stats.dram.hits,
        },
        figures={"speedup_dram_20x256": round(median_ratio(full, reused), 3)},
        rows=[spread("reuse off", full), spread("reuse on, DRAM-warm", reused)]
        + [spread("reuse on, cold (once)", [cold])],
    )


def off_and_warm(
    off: RerankEngine, on: RerankEngine, questions: Sequence[str], texts: Sequence[str]
) -> tuple[list[float], list[float]]:
    """Seconds of every question, computed in full and over KV in DRAM, in turn."""
    asked_off, asked_on = iter(questions), iter(questions)
    return paired(
        lambda: timed(off, next(asked_off), texts),
        lambda: timed(on, next(asked_on), texts, "dram"),
        len(questions),
    )


def median_ratio(baseline: Sequence[float], ours: Sequence[float]) -> float:
    return statistics.median(b / o for b, o in zip(baseline, ours, strict=True))


def words(decoder: Decoder, rng: random.Random, num_tokens: int) -> str:
    """Text of exactly `num_tokens` tokens: whole words, each one token."""
    vocabulary = _single_token_words(decoder)
    return "".join(rng.choice(vocabulary) for _ in range(num_tokens)).strip()


def _single_token_words(decoder: Decoder) -> list[str]:
    pieces = decoder.tokenizer.convert_ids_to_tokens(list(range(2000, 9000)))
    return [" " + p[1:] for p in pieces if p.startswith("\u0120") and p[1:].isalpha()]


def timed(
    engine: RerankEngine, question: str, texts: Sequence[str], source: Source | None = None
) -> float:
    """Seconds of one request; with `source`, all stored KV must have come from there."""
    start = time.perf_counter()
    result = engine.score("bench", question, texts, timeout_s=1200)
    seconds = time.perf_counter() - start
    assert len(result.log_likelihoods) == len(texts)
    if source is not None:
        found, cache = getattr(result.cache, f"{source}_hits"), result.cache
        assert not cache.computed and found == cache.hits >= len(texts), cache
    return seconds
