"""Warm reranking against the same code with reuse off: 20 candidates of 256 tokens."""

import random
import statistics
import time
from dataclasses import asdict

from actors.engine.config import ModelConfig, RerankerConfig
from actors.engine.models import Decoder
from actors.engine.rerank import RerankEngine
from tests.bench.engines import bench
from tests.bench.harness import Options, Result, paired, spread

NUM_CANDIDATES = 20
PASSAGE_TOKENS = 256
QUESTION_TOKENS = 24


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
        cold = _timed(on, questions[0], texts)
        _timed(off, questions[0], texts)
        asked_off, asked_on = iter(questions[1:]), iter(questions[1:])
        full, reused = paired(
            lambda: _timed(off, next(asked_off), texts),
            lambda: _timed(on, next(asked_on), texts),
            repetitions,
        )
        stats = parts.store.stats()
    ratio = statistics.median([f / r for f, r in zip(full, reused, strict=True)])
    return Result(
        config={
            "model": asdict(ModelConfig()),
            "candidates": NUM_CANDIDATES,
            "passage_tokens": PASSAGE_TOKENS,
            "question_tokens": QUESTION_TOKENS,
            "dram_hits": stats.dram.hits,
        },
        figures={"speedup_dram_20x256": round(ratio, 3)},
        rows=[spread("reuse off", full), spread("reuse on, DRAM-warm", reused)]
        + [spread("reuse on, cold (once)", [cold])],
    )


def words(decoder: Decoder, rng: random.Random, num_tokens: int) -> str:
    """Text of exactly `num_tokens` tokens: whole words, each one token."""
    vocabulary = _single_token_words(decoder)
    return "".join(rng.choice(vocabulary) for _ in range(num_tokens)).strip()


def _single_token_words(decoder: Decoder) -> list[str]:
    pieces = decoder.tokenizer.convert_ids_to_tokens(list(range(2000, 9000)))
    return [" " + p[1:] for p in pieces if p.startswith("\u0120") and p[1:].isalpha()]


def _timed(engine: RerankEngine, question: str, texts: list[str]) -> float:
    start = time.perf_counter()
    result = engine.score("bench", question, texts, timeout_s=120)
    assert len(result.log_likelihoods) == len(texts)
    return time.perf_counter() - start
