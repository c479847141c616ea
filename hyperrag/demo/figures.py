"""The demo's numbers, and the file that keeps them."""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from statistics import median
from typing import Any

from hyperrag.demo.measure import Asked, Reply

PACKAGES = ("ray", "torch", "transformers", "faiss-cpu", "pyarrow")


@dataclass(frozen=True, slots=True)
class Figures:
    """Medians over the questions; a speed-up is the median of each question's own ratio."""

    num_questions: int
    num_found: int
    """Questions with a right topic among the first three sources."""
    num_same_answers: int
    candidates: float
    cold_ttft_ms: float
    warm_ttft_ms: float
    ttft_speedup: float
    cold_rerank_ms: float
    warm_rerank_ms: float
    rerank_speedup: float
    warm_hit_rate: float


def figures(asked: Sequence[Asked]) -> Figures:
    cold, warm = [one.cold for one in asked], [one.warm for one in asked]
    return Figures(
        num_questions=len(asked),
        num_found=sum(one.found for one in asked),
        num_same_answers=sum(one.same_answer for one in asked),
        candidates=median(_candidates(reply) for reply in warm),
        cold_ttft_ms=median(reply.ttft_ms for reply in cold),
        warm_ttft_ms=median(reply.ttft_ms for reply in warm),
        ttft_speedup=median(one.cold.ttft_ms / one.warm.ttft_ms for one in asked),
        cold_rerank_ms=median(reply.rerank_ms for reply in cold),
        warm_rerank_ms=median(reply.rerank_ms for reply in warm),
        rerank_speedup=median(one.cold.rerank_ms / one.warm.rerank_ms for one in asked),
        warm_hit_rate=median(reply.hit_rate for reply in warm),
    )


def _candidates(reply: Reply) -> int:
    report = reply.rerank_cache
    return report.hits + report.computed


def record(
    asked: Sequence[Asked], found: Figures, config: Mapping[str, Any], status: Mapping[str, Any]
) -> dict[str, Any]:
    """One JSON document: what was measured, where, and every reply."""
    return {
        "name": "demo",
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "versions": {name: version(name) for name in PACKAGES},
        "config": dict(config),
        "status": dict(status),
        "figures": found,
        "rows": [_row(one) for one in asked],
    }


def _row(one: Asked) -> dict[str, Any]:
    return {
        "question": one.question.text,
        "expected": sorted(one.expected),
        "found": one.found,
        "cold": one.cold,
        "warm": one.warm,
    }
