"""Quality and time against the number of candidates.

A candidate's score does not depend on the other candidates, and both arms give the same scores
(`exactness`): so one reranking of the longest lists has the quality of every shorter one, and
only the time is measured for each arm and number.
"""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from actors.engine.config import RerankerConfig
from tests.bench.engines import Bench
from tests.bench.pool import Pool, seconds_in_turn
from tests.bench.ranking import Floats, first, fused, reciprocal_rank

CANDIDATES = (5, 10, 20, 50, 100)
ARMS = {"traditional": "s_traditional", "HyperRAG": "s_ours"}


def measure(
    parts: Bench, pool: Pool, scores: Floats, timed: int, seed: int
) -> list[dict[str, Any]]:
    """One row a number of candidates; seconds are medians over the first `timed` questions."""
    off, on = parts.reranker(RerankerConfig(reuse="off")), parts.reranker()
    few = pool.head(timed)
    few.rerank(on, "into DRAM")
    rows = []
    for num in CANDIDATES:
        cut, scored = pool.cut(num), scores[:, :num]
        full, reused = seconds_in_turn(off, on, few, num, num)
        with_cosine = fused(scored, cut.cosine, cut.right, seed)
        rows.append(
            {
                "order": f"top {num} by cosine, reranked",
                "candidates": num,
                "found": round(float(cut.right.any(axis=1).mean()), 4),
                "r1": round(float(first(cut.right, scored).mean()), 4),
                "mrr10": round(float(reciprocal_rank(cut.right, scored).mean()), 4),
                "r1_fused": round(float(first(cut.right, with_cosine).mean()), 4),
                "mrr10_fused": round(float(reciprocal_rank(cut.right, with_cosine).mean()), 4),
                "s_traditional": round(statistics.median(full), 4),
                "s_ours": round(statistics.median(reused), 4),
                "speedup": round(
                    statistics.median(f / r for f, r in zip(full, reused, strict=True)), 3
                ),
            }
        )
    return rows


def draw(rows: Sequence[dict[str, Any]], file: Path) -> None:
    """What a second of reranking buys, by arm; the numbers are candidates."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    names = (("r1_fused", "right document first (R@1)"), ("mrr10_fused", "MRR@10"))
    for axes, (key, label) in zip(figure.subplots(1, 2), names, strict=True):
        for (arm, seconds), color in zip(ARMS.items(), ("tab:gray", "tab:blue"), strict=True):
            points = [(row[seconds], row[key], row["candidates"]) for row in rows]
            axes.plot(*zip(*[p[:2] for p in points], strict=True), "o-", color=color, label=arm)
            for x, y, num in points:
                axes.annotate(str(num), (x, y), xytext=(3, -11), textcoords="offset points")
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
        axes.set_xlabel("seconds of reranking per question")
        axes.set_ylabel(label)
        axes.legend(loc="lower right")
    figure.savefig(file, dpi=120)
