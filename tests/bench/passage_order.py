"""What canonical order does to answers: passages that are cached first, not the most relevant.

A stream of SQuAD questions, each with its best three passages by cosine, through one store. Of each
question: the order in which it comes, and the order that `generator.passage_order: canonical` makes
of it with what the store holds by then. Compared where the two differ: the log-probability of the
gold answer a token, F1 of a greedy answer, and the passage tokens that an exact prefix reuses.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from actors.engine.config import ModelConfig
from actors.engine.ordering import canonical
from actors.engine.plan import Plan
from actors.engine.prefix import PrefixPrefill
from actors.engine.weights import load_tokenizer
from kvstore.config import GIB, StoreConfig
from tests.bench.engines import bench
from tests.bench.fusion_quality.arms import Lab, Outcome
from tests.bench.fusion_quality.prompts import Asked
from tests.bench.harness import Options, Result, tracked
from tests.bench.pool import Corpus, squad_questions
from tests.bench.ranking import bootstrap

NUM_PASSAGES = 3
Pair = tuple[Outcome, Outcome]
"""By relevance, in canonical order."""


def run(options: Options) -> Result:
    questions = squad_questions(30 if options.quick else 300, options.seed)
    tokenizer = load_tokenizer(ModelConfig().source, ModelConfig().cache_dir)
    pool = Corpus(tokenizer).retrieve(questions, NUM_PASSAGES)
    asked = [
        Asked(one.question, tuple(texts), one.answers)
        for one, texts in zip(pool.asked, pool.texts, strict=True)
    ]
    reused, pairs = {}, list[Pair]()
    for order in ("relevance", "canonical"):
        reused[order], found = replay(asked, order)
        pairs += found
    gold = np.array([ours.gold - plain.gold for plain, ours in pairs])
    f1 = np.array([(ours.f1 or 0.0) - (plain.f1 or 0.0) for plain, ours in pairs])
    rows: list[dict[str, Any]] = [
        {"what": what, "reordered": len(pairs), **_interval(differences, options.seed)}
        for what, differences in (("gold log-probability", gold), ("F1", f1))
    ]
    return Result(
        {"model": asdict(ModelConfig()), "passages": NUM_PASSAGES},
        {
            "n_questions": float(len(asked)),
            "n_reordered": float(len(pairs)),
            "gold_logprob_change": rows[0]["mean"],
            "f1_change": rows[1]["mean"],
            "reused_relevance": round(reused["relevance"], 4),
            "reused_canonical": round(reused["canonical"], 4),
        },
        rows,
    )


def replay(asked: Sequence[Asked], order: str) -> tuple[float, list[Pair]]:
    """Share of the passage tokens that were reused; outcomes of both orders where they differ."""
    pairs: list[Pair] = []
    hits = total = 0
    with bench(ModelConfig(), StoreConfig(dram_bytes=6 * GIB, ssd_dir="")) as parts:
        lab = Lab(parts)
        prefix = PrefixPrefill(lab.runtime, lab.segments)
        for one in tracked(list(asked), order):
            plan = lab.plan(one, None)
            placed = plan
            if order == "canonical":
                placed = canonical(plan, lab.segments, lab.runtime.decoder.layout)
            if placed.pieces != plan.pieces:
                first, second = (
                    lab.outcome(lab.full, p, one.answers, spoken=True) for p in (plan, placed)
                )
                pairs.append((first, second))
            hits += _reused(prefix, placed, lab)
            total += plan.num_passage_tokens
    return hits / total, pairs


def _reused(prefix: PrefixPrefill, plan: Plan, lab: Lab) -> int:
    """Passage tokens that the store had; it has all of them now."""
    kv = lab.runtime.decoder.empty_kv(plan.num_tokens)
    _, report = prefix.prefill(plan, kv, time.monotonic() + 600)
    return max(0, report.tokens_reused - len(plan.pieces[0]))


def _interval(differences: "np.typing.NDArray[np.float64]", seed: int) -> dict[str, float]:
    mean, low, high = bootstrap(differences, seed)
    return {"mean": round(mean, 4), "low": round(low, 4), "high": round(high, 4)}
