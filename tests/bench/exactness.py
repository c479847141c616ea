"""Reuse gives the scores and tokens of full computation: fp32 to 1e-3, same order, same answers."""

import itertools
import time
from dataclasses import asdict
from typing import Any

from actors.engine.config import GeneratorConfig, ModelConfig, RerankerConfig
from actors.engine.generate import GenerateEngine
from actors.engine.rerank import RerankEngine
from actors.messages import GenerateRequest, Message, Sampling
from tests.bench.corpus import Lists, python_reference, squad
from tests.bench.engines import bench
from tests.bench.harness import CannotRun, Options, Result, tracked

NUM_CANDIDATES = 10
NEW_TOKENS = 16


def run(options: Options) -> Result:
    num = 10 if options.quick else 50
    lists = _question_lists(num, options.seed)
    rows: list[dict[str, Any]] = []
    with bench(ModelConfig(dtype="float32")) as parts:
        off = parts.reranker(RerankerConfig(reuse="off"))
        on = parts.reranker(RerankerConfig(reuse="on"))
        scores = [
            (_scores(off, item), _scores(on, item), _scores(on, item))
            for item in tracked(lists, "scores, fp32")
        ]
        full = parts.generator(GeneratorConfig(mode="full"))
        prefix = parts.generator(GeneratorConfig(mode="prefix"))
        answers = [
            (_answer(full, item), _answer(prefix, item)) for item in tracked(lists, "answers, fp32")
        ]
        warm = [_answer(prefix, item) for item in lists]
        stats = parts.store.stats()
    with bench(ModelConfig(dtype="bfloat16")) as parts:
        off = parts.reranker(RerankerConfig(reuse="off"))
        on = parts.reranker(RerankerConfig(reuse="on"))
        low = [(_scores(off, item), _scores(on, item)) for item in tracked(lists, "scores, bf16")]
    diffs = [max(abs(a - b) for a, b in zip(f, r, strict=True)) for f, _, r in scores]
    rows.append({"what": "fp32 scores, reused", "lists": num, "max_diff": max(diffs)})
    same = [_order(f) == _order(r) and _order(f) == _order(c) for f, c, r in scores]
    equal = [a == b == c for (a, b), c in zip(answers, warm, strict=True)]
    rows.append({"what": "greedy answers", "lists": num, "equal": sum(equal)})
    taus = [_kendall(f, r) for f, r in low]
    rows.append({"what": "bf16 order, reused", "lists": len(low), "min_tau": min(taus)})
    return Result(
        config={
            "model": asdict(ModelConfig(dtype="float32")),
            "candidates": NUM_CANDIDATES,
            "new_tokens": NEW_TOKENS,
            "store_hits": stats.dram.hits,
        },
        figures={
            "num_lists": num,
            "num_prompts": len(answers),
            "max_score_diff_fp32": max(diffs),
            "order_equal_fp32": sum(same) / num,
            "greedy_equal_fp32": sum(equal) / num,
            "kendall_tau_bf16": sum(taus) / len(taus),
        },
        rows=rows,
    )


def _question_lists(num: int, seed: int) -> Lists:
    """Real questions, each with passages: SQuAD where it is at hand, else the Python reference."""
    try:
        return squad(num, NUM_CANDIDATES, seed)
    except CannotRun:
        return python_reference(num, NUM_CANDIDATES, seed)


def _scores(engine: RerankEngine, item: tuple[str, list[str]]) -> tuple[float, ...]:
    return engine.score("bench", item[0], item[1], timeout_s=300).log_likelihoods


def _answer(engine: GenerateEngine, item: tuple[str, list[str]]) -> list[int]:
    request = GenerateRequest(
        "bench", "bench", (Message("user", item[0]),), tuple(item[1][:3]), Sampling(NEW_TOKENS), 300
    )
    sequence = engine.start(request, time.monotonic() + 300)
    tokens = [sequence.last]
    while len(tokens) < NEW_TOKENS and not engine.ends(tokens[-1]):
        engine.step([sequence])
        tokens.append(sequence.last)
    return tokens


def _order(scores: tuple[float, ...]) -> list[int]:
    return sorted(range(len(scores)), key=lambda i: -scores[i])


def _kendall(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Kendall's tau-a of two score lists."""
    pairs = list(itertools.combinations(range(len(a)), 2))
    agree = sum((a[i] - a[j]) * (b[i] - b[j]) > 0 for i, j in pairs)
    return 2 * agree / len(pairs) - 1
