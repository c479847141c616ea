"""Answers at equal latency: what the time that reuse saves buys when it is spent on candidates.

The traditional service (`reuse: off`) reranks the best few by cosine, HyperRAG as many as it can
in the same time, measured in this run and warm. The three best of each, by log-likelihood + the
default weight x cosine, go to the same generator: 16 greedy tokens. Questions and passages are
those of `rerank_quality`. The figures are of the first budget, the rows of all.
"""

from dataclasses import asdict
from typing import Any

import numpy as np

from actors.engine.config import ModelConfig, RerankerConfig
from tests.bench.answer_quality.answers import FIGURES, Answering
from tests.bench.answer_quality.budget import Budget, equal_time
from tests.bench.engines import bench
from tests.bench.harness import Options, Result, tracked
from tests.bench.pool import Corpus, Pool, squad_questions
from tests.bench.ranking import Floats, best, bootstrap, found

BUDGETS = (5, 10)
"""Candidates of the traditional service."""
MOST = 100
TOP_K = 3
WEIGHT = RerankerConfig().dense_weight


def run(options: Options) -> Result:
    num, timed = (12, 3) if options.quick else (150, 8)
    figures: dict[str, float] = {}
    rows: list[dict[str, Any]] = []
    with bench(ModelConfig()) as parts:
        corpus = Corpus(parts.tokenizer)
        wide = corpus.retrieve(squad_questions(num, options.seed), MOST)
        off, on = parts.reranker(RerankerConfig(reuse="off")), parts.reranker()
        ours = wide.rerank(on, "reranking, HyperRAG")
        few = wide.cut(max(BUDGETS))
        theirs = few.rerank(off, "reranking, traditional")
        answering = Answering(parts)
        for candidates in BUDGETS:
            budget = equal_time(off, on, wide.head(timed), candidates)
            traditional = _judged(answering, wide.cut(candidates), theirs[:, :candidates])
            hyperrag = _judged(answering, wide.cut(budget.ours), ours[:, : budget.ours])
            rows += _rows(budget, traditional, hyperrag, options.seed)
            figures = figures or _figures(traditional, hyperrag)
    config: dict[str, Any] = {"model": asdict(ModelConfig()), "n_questions": num, "top_k": TOP_K}
    config |= {"budgets": BUDGETS, "dense_weight": WEIGHT, "timed_questions": timed}
    config |= {"n_passages": len(corpus.passages), "documents": corpus.num_documents}
    return Result(config, {name: round(value, 4) for name, value in figures.items()}, rows)


def _judged(answering: Answering, pool: Pool, scores: Floats) -> dict[str, Floats]:
    """[q] of each figure, and of whether a right passage was among the three."""
    fused = scores + WEIGHT * pool.cosine
    top = best(fused, TOP_K)
    shown = [[texts[i] for i in row] for texts, row in zip(pool.texts, top, strict=True)]
    pairs = list(zip(pool.asked, shown, strict=True))
    judged = [answering.judged(asked, texts) for asked, texts in tracked(pairs, "answering")]
    figures = {name: np.array([getattr(j, name) for j in judged]) for name in FIGURES}
    return {"right_in_top3": found(pool.right, fused, TOP_K), **figures}


def _figures(traditional: dict[str, Floats], ours: dict[str, Floats]) -> dict[str, float]:
    return {
        "f1_traditional": float(traditional["f1"].mean()),
        "f1_ours": float(ours["f1"].mean()),
        "em_traditional": float(traditional["em"].mean()),
        "em_ours": float(ours["em"].mean()),
        "gold_logprob_gain": float((ours["gold_logprob"] - traditional["gold_logprob"]).mean()),
    }


def _rows(
    budget: Budget, traditional: dict[str, Floats], ours: dict[str, Floats], seed: int
) -> list[dict[str, Any]]:
    """Both arms, and their differences with 95 % bootstrap intervals over questions."""
    arms = (
        ("traditional", budget.traditional, budget.traditional_s, traditional),
        ("HyperRAG", budget.ours, budget.ours_s, ours),
    )
    rows: list[dict[str, Any]] = []
    for name, candidates, seconds, arm in arms:
        means = {figure: round(float(values.mean()), 4) for figure, values in arm.items()}
        rows.append({"arm": name, "candidates": candidates, "rerank_s": round(seconds, 4), **means})
    gains = {name: bootstrap(ours[name] - traditional[name], seed) for name in ours}
    intervals = {name: f"{g:+.4f} [{lo:+.4f}, {hi:+.4f}]" for name, (g, lo, hi) in gains.items()}
    return [*rows, {"arm": "difference", **intervals}]
