"""How much the cosine should count beside the log-likelihood, fitted on questions with known
right documents.

Order = log-likelihood + weight x cosine. One number is fitted, for the mean reciprocal rank of the
first right candidate. The weights that are tried are multiples of the ratio of both scores' spread,
so the fit does not depend on the scale of the scoring rule.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Lists = Sequence[ArrayLike] | NDArray[Any]
"""By question, then by candidate."""

MULTIPLES = (0.0, *(2.0 ** (i / 2) for i in range(-8, 7)))
"""Of spread(log-likelihood) / spread(cosine): 1/16 to 8 in steps of a factor 1.4, and 0."""
MIN_QUESTIONS = 20
"""With a right and a wrong candidate: the others say nothing about an order."""
_DRAWS = 2000
"""Of the gain's mean, for its interval."""
_CHOICES = 400
"""Resamples whose best weights the chosen one is the median of."""
_INTERVAL = (0.025, 0.975)


@dataclass(frozen=True, slots=True)
class FittedWeight:
    weight: float
    """For `reranker.dense_weight`; 0 where no gain beyond noise was found."""
    gain: float
    """In mean reciprocal rank over order by log-likelihood alone, on questions held out."""
    low: float
    high: float
    """The gain's 95 % bootstrap interval over questions."""
    best: float
    """The weight that was fitted, whether or not its gain is beyond noise."""
    mrr_alone: float
    num_questions: int


def fit_weight(
    scores: Lists,
    cosines: Lists,
    right: Lists,
    folds: int = 5,
    seed: int = 0,
) -> FittedWeight:
    """The weight of all questions, its gain by cross-validation.

    For each question the log-likelihoods, cosines and whether right of its candidates, in one
    order; questions may have different numbers of candidates. Raises ValueError where the three
    do not match, a score is not finite, or fewer than MIN_QUESTIONS have both a right and a wrong
    candidate.
    """
    weights, ranked = _reciprocal_ranks(scores, cosines, right)
    gains = _held_out(ranked, folds, seed)[1] - ranked[:, 0]
    draws = np.random.default_rng(seed).choice(gains, size=(_DRAWS, len(gains))).mean(axis=1)
    low, high = (float(bound) for bound in np.quantile(draws, _INTERVAL))
    best = float(weights[_choose(ranked, seed)])
    return FittedWeight(
        weight=best if low > 0 else 0.0,
        gain=float(gains.mean()),
        low=low,
        high=high,
        best=best,
        mrr_alone=float(ranked[:, 0].mean()),
        num_questions=len(ranked),
    )


def held_out_weights(
    scores: Lists,
    cosines: Lists,
    right: Lists,
    folds: int = 2,
    seed: int = 0,
) -> Floats:
    """[questions]: for each the weight that was fitted on the folds without it."""
    weights, ranked = _reciprocal_ranks(scores, cosines, right)
    return weights[_held_out(ranked, folds, seed)[0]]


def _held_out(ranked: Floats, folds: int, seed: int) -> tuple[NDArray[np.intp], Floats]:
    """[questions] each: the index of the weight from the other folds, the reciprocal rank by it."""
    if not 2 <= folds <= len(ranked):
        raise ValueError(f"folds is {folds}, must be 2 to the {len(ranked)} questions")
    fold = np.random.default_rng(seed).permutation(len(ranked)) % folds
    chosen = np.empty(len(ranked), dtype=np.intp)
    for i in range(folds):
        chosen[fold == i] = _choose(ranked[fold != i], seed)
    return chosen, np.take_along_axis(ranked, chosen[:, None], axis=1)[:, 0]


def _choose(ranked: Floats, seed: int) -> int:
    """The median of what is best on resampled questions: steadier than the best on all of them."""
    num = len(ranked)
    counts = np.random.default_rng(seed).multinomial(num, np.full(num, 1 / num), size=_CHOICES)
    return int(np.median((counts @ ranked).argmax(axis=1)))


def _reciprocal_ranks(scores: Lists, cosines: Lists, right: Lists) -> tuple[Floats, Floats]:
    """The weights to try [W], and the reciprocal rank of every question by each [questions, W]."""
    lists = _checked(scores, cosines, right)
    useful = [(s, c, r) for s, c, r in lists if r.any() and not r.all()]
    if len(useful) < MIN_QUESTIONS:
        raise ValueError(
            f"{len(useful)} of {len(lists)} questions have a right and a wrong candidate, at least "
            f"{MIN_QUESTIONS} are needed to fit a weight"
        )
    spread = [float(np.median([np.std(part[i]) for part in useful])) for i in (0, 1)]
    if not all(spread):
        raise ValueError("the scores or the cosines of most questions are all the same")
    weights = np.array(MULTIPLES) * (spread[0] / spread[1])
    return weights, np.stack([_of_question(s, c, r, weights) for s, c, r in lists])


def _of_question(score: Floats, cosine: Floats, right: NDArray[np.bool_], w: Floats) -> Floats:
    """[W]; 0 where no candidate is right. Equal scores keep their order, as in the service."""
    if not right.any():
        return np.zeros(len(w))
    fused = score + w[:, None] * cosine
    order = np.argsort(-fused, axis=1, kind="stable")
    ranks: Floats = right[order].argmax(axis=1) + 1.0
    return 1.0 / ranks


def _checked(
    scores: Lists, cosines: Lists, right: Lists
) -> list[tuple[Floats, Floats, NDArray[np.bool_]]]:
    if not len(scores) == len(cosines) == len(right):
        raise ValueError(
            f"scores, cosines and right are of {len(scores)}, {len(cosines)} and {len(right)} "
            "questions, must be of the same"
        )
    lists = []
    for i, (score, cosine, is_right) in enumerate(zip(scores, cosines, right, strict=True)):
        s, c = np.asarray(score, dtype=np.float64), np.asarray(cosine, dtype=np.float64)
        r = np.asarray(is_right, dtype=np.bool_)
        if not s.shape == c.shape == r.shape or s.ndim != 1:
            shapes = ", ".join(str(a.shape) for a in (s, c, r))
            raise ValueError(f"question {i}: shapes {shapes} must be one and the same [candidates]")
        if not (np.isfinite(s).all() and np.isfinite(c).all()):
            raise ValueError(f"question {i}: a score or a cosine is not finite")
        lists.append((s, c, r))
    return lists
