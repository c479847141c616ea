"""Warm reranking against reuse off over passage length, question length and candidates."""

import itertools
import random
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.engine.config import RerankerConfig
from tests.bench.engines import Bench
from tests.bench.floor import counted_rows
from tests.bench.harness import spread, tracked
from tests.bench.rerank_reuse import median_ratio, off_and_warm, timed, words

Point = dict[str, Any]
ROWS_OF_THREE = 6_000
"""Points with fewer tokens in all are measured three times, the others once."""


@dataclass(frozen=True, slots=True)
class Grid:
    passage_tokens: tuple[int, ...] = (128, 256, 512)
    question_tokens: tuple[int, ...] = (16, 32, 64)
    candidates: tuple[int, ...] = (10, 20, 50, 100)

    def points(self) -> list[tuple[int, int, int]]:
        """Passage tokens, question tokens, candidates."""
        axes = (self.passage_tokens, self.question_tokens, self.candidates)
        return list(itertools.product(*axes))


QUICK = Grid((128, 256), (16, 32), (10,))


def sweep(parts: Bench, rng: random.Random, grid: Grid) -> Iterator[Point]:
    """One row a point; `rows` is what the engine really computes for a candidate, warm: the
    question's tokens, and those of the template that it does not find stored."""
    off, on = parts.reranker(RerankerConfig(reuse="off")), parts.reranker()
    texts = {n: texts_of(parts, rng, max(grid.candidates), n) for n in grid.passage_tokens}
    for own in tracked(list(texts.values()), "computing"):
        timed(on, "Is it there?", own)
    for passage, question, candidates in tracked(grid.points(), "sizes"):
        own = texts[passage][:candidates]
        few = candidates * (passage + question) <= ROWS_OF_THREE
        asked = [words(parts.runtime.decoder, rng, question) for _ in range(4 if few else 2)]
        with counted_rows() as counted:
            timed(on, asked[0], own, "dram")
        full, reused = off_and_warm(off, on, asked[1:], own)
        yield {
            **spread(f"{passage} x {question} x {candidates}", reused),
            "passage": passage,
            "question": question,
            "candidates": candidates,
            "rows": round(sum(counted.passes) / candidates, 1),
            "off_s": round(statistics.median(full), 4),
            "ratio": round(median_ratio(full, reused), 2),
            "ideal": round(ideal(passage, question), 2),
        }


def texts_of(parts: Bench, rng: random.Random, num: int, tokens: int) -> list[str]:
    return [words(parts.runtime.decoder, rng, tokens) for _ in range(num)]


def ideal(passage_tokens: int, question_tokens: int) -> float:
    """The ratio if only the question's rows cost anything."""
    return (passage_tokens + question_tokens) / question_tokens


def draw(points: Sequence[Point], path: Path) -> None:
    """Ratio and ideal over passage length, one panel for each question length."""
    from matplotlib.figure import Figure

    questions = sorted({p["question"] for p in points})
    figure = Figure(figsize=(4 * len(questions) + 1, 4), layout="constrained")
    panels = figure.subplots(1, len(questions), squeeze=False)[0]
    for panel, question in zip(panels, questions, strict=True):
        mine = [p for p in points if p["question"] == question]
        for num in sorted({p["candidates"] for p in mine}):
            line = sorted((p["passage"], p["ratio"]) for p in mine if p["candidates"] == num)
            panel.plot(*zip(*line, strict=True), marker="o", label=f"{num} candidates")
        best = sorted({(p["passage"], p["ideal"]) for p in mine})
        panel.plot(*zip(*best, strict=True), "k--", label="ideal (Ld + Lq) / Lq")
        panel.set_title(f"question of {question} tokens")
        panel.set_xlabel("passage tokens")
        panel.set_ylim(bottom=0)
    panels[0].set_ylabel("times faster than reuse off")
    panels[-1].legend()
    figure.savefig(path, dpi=120)
