import numpy as np
import pytest

from tests.bench.ranking import best, bootstrap, first, found, reciprocal_rank

RIGHT = np.array([[False, True, False], [True, False, False], [False, False, False]])
SCORES = np.array([[3.0, 2.0, 1.0], [1.0, 1.0, 0.0], [1.0, 2.0, 3.0]])


def test_the_best_come_first_and_equal_scores_keep_their_order() -> None:
    assert best(SCORES, 2).tolist() == [[0, 1], [0, 1], [2, 1]]


def test_figures_of_an_order() -> None:
    assert first(RIGHT, SCORES).tolist() == [0.0, 1.0, 0.0]
    assert reciprocal_rank(RIGHT, SCORES).tolist() == [0.5, 1.0, 0.0]
    assert reciprocal_rank(RIGHT, SCORES, depth=1).tolist() == [0.0, 1.0, 0.0]
    assert found(RIGHT, SCORES, 2).tolist() == [1.0, 1.0, 0.0]


def test_the_interval_is_that_of_the_mean() -> None:
    gains = np.random.default_rng(0).normal(0.5, 1.0, 400)
    mean, low, high = bootstrap(gains, seed=0, draws=2000)
    assert mean == pytest.approx(gains.mean())
    assert high - mean == pytest.approx(1.96 / 20, rel=0.15)
    assert mean - low == pytest.approx(1.96 / 20, rel=0.15)
    assert bootstrap(np.zeros(5), seed=0, draws=100) == (0.0, 0.0, 0.0)
