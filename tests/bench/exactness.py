"""Reuse gives the scores and tokens of full computation: fp32 to 1e-3, same order, same answers.

In bf16 the two round differently; what that changes is measured as Kendall's tau of the orders and
as the difference of their mean reciprocal ranks. The second model has sliding windows and one KV
head; its answers are made from more passages than a window holds.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, replace

from actors.engine.config import GeneratorConfig, ModelConfig, RerankerConfig
from tests.bench.asking import (
    NEW_TOKENS,
    NUM_CANDIDATES,
    Scores,
    answer,
    kendall,
    order,
    question_lists,
    reciprocal_rank,
    scores,
)
from tests.bench.corpus import Lists
from tests.bench.engines import Bench, bench
from tests.bench.gemma import MODEL as GEMMA
from tests.bench.gemma import gemma_folder
from tests.bench.harness import Options, Result, tracked

Pair = tuple[Scores, Scores]
"""Scores of one list, computed in full and over stored KV."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Question-passage lists of each part; every part takes the first so many."""

    fp32: int = 500
    bf16: int = 200
    answers: int = 200


QUICK = Counts(6, 6, 4)
DEFAULT = "smollm2"
SOURCES = {DEFAULT: ModelConfig().source, GEMMA: GEMMA}
PASSAGES = {DEFAULT: 3, GEMMA: 6}
"""Of an answer. Gemma's window is 512 tokens."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", choices=PASSAGES, default=DEFAULT)
    for part, number in asdict(Counts()).items():
        parser.add_argument(f"--{part}", type=int, default=number, help="at least 1")


def run(options: Options) -> Result:
    counts = QUICK
    if not options.quick:
        counts = Counts(*(getattr(options.own, part) for part in asdict(QUICK)))
    name = getattr(options.own, "model", DEFAULT)
    model = ModelConfig(source=str(gemma_folder())) if name == GEMMA else ModelConfig()
    lists = question_lists(max(astuple(counts)), options.seed)
    with bench(replace(model, dtype="float32")) as parts:
        high = _scored(parts, lists[: counts.fp32], "scores, fp32")
        answered = _answered(parts, lists[: counts.answers], PASSAGES[name])
        stats = parts.store.stats()
    with bench(replace(model, dtype="bfloat16")) as parts:
        low = _scored(parts, lists[: counts.bf16], "scores, bf16")
    fp32, bf16 = compared(high, lists), compared(low, lists)
    return Result(
        config={
            "model": asdict(replace(model, source=SOURCES[name], dtype="float32")),
            "candidates": NUM_CANDIDATES,
            "new_tokens": NEW_TOKENS,
            "passages": PASSAGES[name],
            "store_hits": stats.dram.hits + stats.ssd.hits,
        },
        figures={
            "num_lists": len(high),
            "num_prompts": counts.answers,
            "max_score_diff_fp32": fp32["max_diff"],
            "order_equal_fp32": fp32["order_equal"],
            "greedy_equal_fp32": answered.equal / counts.answers,
            "kendall_tau_bf16": bf16["tau"],
            "mrr_diff_bf16": abs(bf16["mrr_full"] - bf16["mrr_reused"]),
        },
        rows=[
            {"what": "scores and orders, fp32", "lists": len(high), **fp32},
            {"what": "scores and orders, bf16", "lists": len(low), **bf16},
            {"what": "greedy answers, fp32", "lists": counts.answers, **asdict(answered)},
        ],
    )


def compared(pairs: Sequence[Pair], lists: Lists) -> dict[str, float]:
    """What reuse changes: the largest score difference, orders, the right passages' ranks."""
    taus = [kendall(full, reused) for full, reused in pairs]
    ranks = [
        (reciprocal_rank(full, item.right), reciprocal_rank(reused, item.right))
        for (full, reused), item in zip(pairs, lists, strict=False)
    ]
    found = {
        "max_diff": max(abs(a - b) for pair in pairs for a, b in zip(*pair, strict=True)),
        "order_equal": sum(order(full) == order(reused) for full, reused in pairs) / len(pairs),
        "tau": sum(taus) / len(taus),
        "min_tau": min(taus),
        "mrr_full": sum(full for full, _ in ranks) / len(ranks),
        "mrr_reused": sum(reused for _, reused in ranks) / len(ranks),
    }
    return {name: float(f"{value:.6g}") for name, value in found.items()}


def _scored(parts: Bench, lists: Lists, what: str) -> list[Pair]:
    """Lists share passages, so reuse is cold in the first ones and warm from then on."""
    off = parts.reranker(RerankerConfig(reuse="off"))
    on = parts.reranker(RerankerConfig(reuse="on"))
    return [(scores(off, item), scores(on, item)) for item in tracked(lists, what)]


@dataclass(frozen=True, slots=True)
class Answered:
    equal: int
    """Prompts whose greedy answer is the same in full, cold and warm."""
    max_passage_tokens: int
    """Of one prompt."""


def _answered(parts: Bench, lists: Lists, passages: int) -> Answered:
    full = parts.generator(GeneratorConfig(mode="full"))
    prefix = parts.generator(GeneratorConfig(mode="prefix"))
    cold = [
        (answer(full, item, passages), answer(prefix, item, passages))
        for item in tracked(lists, "answers, fp32")
    ]
    warm = [answer(prefix, item, passages) for item in lists]
    equal = sum(a == b == c for (a, b), c in zip(cold, warm, strict=True))
    prompt = parts.runtime.prompt
    lengths = [sum(len(prompt.passage(t)) for t in item.passages[:passages]) for item in lists]
    return Answered(equal, max(lengths))
