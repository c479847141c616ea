"""How good an order is: [q, n] whether right and scores in, figures out."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.fusion import held_out_weights

Floats = NDArray[np.float64]
Right = NDArray[np.bool_]


def best(scores: Floats, num: int) -> NDArray[np.intp]:
    """[q, num]: the candidates with the highest scores, best first; equal ones keep their order."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :num]


def ordered(right: Right, scores: Floats) -> Right:
    return np.take_along_axis(right, best(scores, right.shape[1]), axis=1)


def first(right: Right, scores: Floats) -> Floats:
    """[q]: 1 where the best candidate is right."""
    return ordered(right, scores)[:, 0].astype(np.float64)


def reciprocal_rank(right: Right, scores: Floats, depth: int = 10) -> Floats:
    """[q]: of the first right candidate; 0 where none is among the best `depth`."""
    ranks: Floats = ordered(right, scores)[:, :depth].argmax(axis=1) + 1.0
    reciprocal: Floats = found(right, scores, depth) / ranks
    return reciprocal


def found(right: Right, scores: Floats, depth: int) -> Floats:
    """[q]: 1 where a right candidate is among the best `depth`."""
    hits: Floats = ordered(right, scores)[:, :depth].astype(np.float64).max(axis=1)
    return hits


def row(name: str, right: Right, scores: Floats) -> dict[str, Any]:
    r1 = float(first(right, scores).mean())
    mrr = float(reciprocal_rank(right, scores).mean())
    return {"order": name, "r1": round(r1, 4), "mrr10": round(mrr, 4)}


def fused(scores: Floats, cosine: Floats, right: Right, seed: int) -> Floats:
    """Scores [q, n] with the cosine, whose weight each half of the questions has from the other."""
    return scores + held_out_weights(scores, cosine, right, 2, seed)[:, None] * cosine


def bootstrap(gains: Floats, seed: int, draws: int = 10_000) -> tuple[float, float, float]:
    """The mean over questions, and both ends of its 95 % bootstrap interval."""
    rng = np.random.default_rng(seed)
    means = np.array([rng.choice(gains, size=len(gains)).mean() for _ in range(draws)])
    low, high = np.quantile(means, (0.025, 0.975))
    return float(gains.mean()), float(low), float(high)
