"""Reuse gives the scores and tokens of full computation: fp32 to 1e-3, same order, same answers."""

from dataclasses import asdict
from typing import Any

from actors.engine.config import GeneratorConfig, ModelConfig, RerankerConfig
from tests.bench.asking import (
    NEW_TOKENS,
    NUM_CANDIDATES,
    answer,
    kendall,
    order,
    question_lists,
    scores,
)
from tests.bench.engines import bench
from tests.bench.harness import Options, Result, tracked


def run(options: Options) -> Result:
    num = 10 if options.quick else 50
    lists = question_lists(num, options.seed)
    rows: list[dict[str, Any]] = []
    with bench(ModelConfig(dtype="float32")) as parts:
        off = parts.reranker(RerankerConfig(reuse="off"))
        on = parts.reranker(RerankerConfig(reuse="on"))
        scored = [
            (scores(off, item), scores(on, item), scores(on, item))
            for item in tracked(lists, "scores, fp32")
        ]
        full = parts.generator(GeneratorConfig(mode="full"))
        prefix = parts.generator(GeneratorConfig(mode="prefix"))
        answers = [
            (answer(full, item), answer(prefix, item)) for item in tracked(lists, "answers, fp32")
        ]
        warm = [answer(prefix, item) for item in lists]
        stats = parts.store.stats()
    with bench(ModelConfig(dtype="bfloat16")) as parts:
        off = parts.reranker(RerankerConfig(reuse="off"))
        on = parts.reranker(RerankerConfig(reuse="on"))
        low = [(scores(off, item), scores(on, item)) for item in tracked(lists, "scores, bf16")]
    diffs = [max(abs(a - b) for a, b in zip(f, r, strict=True)) for f, _, r in scored]
    rows.append({"what": "fp32 scores, reused", "lists": num, "max_diff": max(diffs)})
    same = [order(f) == order(r) and order(f) == order(c) for f, c, r in scored]
    equal = [a == b == c for (a, b), c in zip(answers, warm, strict=True)]
    rows.append({"what": "greedy answers", "lists": num, "equal": sum(equal)})
    taus = [kendall(f, r) for f, r in low]
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
