"""Fitting the cosine's weight on questions that are made so that the answer is known."""

from dataclasses import astuple

import numpy as np
import pytest
from numpy.typing import NDArray

from actors.fusion import FittedWeight, fit_weight, held_out_weights

Floats = NDArray[np.float64]
CANDIDATES = 10


def questions(
    num: int, by_score: float, by_cosine: float, seed: int = 0
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """[num, CANDIDATES] each. The right candidate stands out from noise of deviation 1 by as much
    in the log-likelihoods, from noise of 0.1 by a tenth of as much in the cosines."""
    rng = np.random.default_rng(seed)
    right = np.zeros((num, CANDIDATES), dtype=np.bool_)
    right[np.arange(num), rng.integers(CANDIDATES, size=num)] = True
    scores = rng.normal(-3.0, 1.0, right.shape) + by_score * right
    cosines = rng.normal(0.5, 0.1, right.shape) + 0.1 * by_cosine * right
    return scores, cosines, right


def fit(scores: Floats, cosines: Floats, right: NDArray[np.bool_]) -> FittedWeight:
    return fit_weight(list(scores), list(cosines), list(right))


def test_two_scores_that_know_as_much_get_equal_say() -> None:
    """Both stand out by 2 deviations: with independent noise the sum of equal parts is best."""
    fitted = fit(*questions(400, 2.0, 2.0))
    assert 0 < fitted.low < fitted.gain < fitted.high
    assert fitted.weight == fitted.best
    assert 10 / 1.6 < fitted.weight < 10 * 1.6  # the cosines' noise is a tenth of the scores'


def test_a_cosine_that_knows_less_gets_less() -> None:
    little, much = fit(*questions(400, 2.0, 1.0)), fit(*questions(400, 2.0, 3.0))
    assert 0 < little.weight < 10 < much.weight


@pytest.mark.parametrize("seed", range(8))
def test_a_cosine_that_is_noise_is_off(seed: int) -> None:
    fitted = fit(*questions(200, 2.0, 0.0, seed))
    assert fitted.weight == 0.0
    assert fitted.low <= 0.0 and fitted.gain < 0.02


def test_a_handful_of_questions_is_no_evidence() -> None:
    """An advantage that 400 questions show always, and 20 seldom."""
    few = [fit(*questions(20, 2.0, 0.8, seed)).weight > 0 for seed in range(10)]
    many = [fit(*questions(400, 2.0, 0.8, seed)).weight > 0 for seed in range(3)]
    assert all(many) and sum(few) <= 3


def test_the_fit_does_not_depend_on_the_scale_of_the_scores() -> None:
    scores, cosines, right = questions(300, 2.0, 2.0)
    once, scaled = fit(scores, cosines, right), fit(scores * 7.0 + 3.0, cosines, right)
    assert scaled.weight == pytest.approx(7.0 * once.weight)
    assert scaled.gain == pytest.approx(once.gain)


def test_the_gain_is_that_of_questions_the_weight_has_not_seen() -> None:
    """Measured on questions that were fitted, noise would look like a gain."""
    held_out, fitted_on = [], []
    for seed in range(20):
        scores, cosines, right = questions(30, 1.0, 0.0, seed)
        found = fit(scores, cosines, right)
        fused = scores + found.best * cosines
        ranks = [
            1 + (row > row[is_right]).sum() for row, is_right in zip(fused, right, strict=True)
        ]
        held_out.append(found.gain)
        fitted_on.append(np.mean(1 / np.array(ranks)) - found.mrr_alone)
    assert np.mean(fitted_on) > 0.005 > np.mean(held_out)


def test_equal_input_gives_equal_output() -> None:
    assert astuple(fit(*questions(50, 2.0, 2.0))) == astuple(fit(*questions(50, 2.0, 2.0)))


def test_a_question_without_a_right_candidate_counts_and_says_nothing() -> None:
    scores, cosines, right = questions(100, 2.0, 2.0)
    fitted = fit(scores, cosines, right)
    nowhere = np.zeros_like(right)
    mixed = fit_weight(
        [*scores, *scores], [*cosines, *cosines], [*right, *nowhere]
    )  # so every second right document was not found
    assert mixed.num_questions == 200
    assert mixed.mrr_alone == pytest.approx(fitted.mrr_alone / 2)


def test_questions_may_have_different_numbers_of_candidates() -> None:
    scores, cosines, right = (list(part) for part in questions(100, 2.0, 2.0))
    short = right[0].argmax() + 1
    cut = [[part[0][:short], *part[1:]] for part in (scores, cosines, right)]
    assert fit_weight(cut[0], cut[1], cut[2]).weight > 0


def test_held_out_weights_come_from_the_other_half() -> None:
    scores, cosines, right = questions(200, 2.0, 2.0)
    weights = held_out_weights(list(scores), list(cosines), list(right), folds=2)
    halves = [weights == weight for weight in np.unique(weights)]
    assert len(weights) == 200 and all(weights > 0)
    if len(halves) == 2:  # both halves may have chosen the same
        assert all(80 <= half.sum() <= 120 for half in halves)
    scores[0] = -scores[0]  # what one question says does not reach its own weight
    again = held_out_weights(list(scores), list(cosines), list(right), folds=2)
    assert again[0] == weights[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("fewer cosines", "of 100, 99 and 100 questions"),
        ("a candidate less", r"question 7: shapes \(9,\), \(10,\), \(10,\)"),
        ("not finite", "question 7: a score or a cosine is not finite"),
        ("all right", "19 of 100 questions have a right and a wrong candidate, at least 20"),
        ("all the same", "are all the same"),
        ("one fold", "folds is 1, must be 2 to the 100 questions"),
    ],
)
def test_bad_input_is_named(change: str, words: str) -> None:
    scores, cosines, right = (list(part) for part in questions(100, 2.0, 2.0))
    if change == "fewer cosines":
        cosines.pop()
    elif change == "a candidate less":
        scores[7] = scores[7][1:]
    elif change == "not finite":
        scores[7][3] = np.nan
    elif change == "all right":
        right[19:] = [np.ones(CANDIDATES, dtype=np.bool_)] * 81
    elif change == "all the same":
        cosines = [np.zeros(CANDIDATES)] * 100
    folds = 1 if change == "one fold" else 5
    with pytest.raises(ValueError, match=words):
        fit_weight(scores, cosines, right, folds)
