"""What exactness makes of two lists of scores, and the lists themselves."""

from pydoc_data.topics import topics

import pytest

from tests.bench.asking import kendall, reciprocal_rank
from tests.bench.corpus import Asked, python_reference
from tests.bench.exactness import compared

LISTS = [Asked("first?", ["a", "b", "c"], 0), Asked("second?", ["a", "b", "c"], 2)]


def test_equal_scores_change_nothing() -> None:
    found = compared([((3.0, 2.0, 1.0),) * 2, ((3.0, 2.0, 1.0),) * 2], LISTS)
    assert (found["max_diff"], found["order_equal"], found["tau"]) == (0, 1, 1)
    assert found["mrr_full"] == found["mrr_reused"] == pytest.approx((1 + 1 / 3) / 2)


def test_a_swap_of_the_first_two_shows_in_every_measure() -> None:
    same, swapped = (3.0, 2.0, 1.0), (2.0, 3.0, 1.0)
    found = compared([(same, swapped), (same, same)], LISTS)
    assert (found["max_diff"], found["order_equal"]) == (1, 0.5)
    assert found["min_tau"] == pytest.approx(kendall(same, swapped), abs=1e-5)
    assert kendall(same, swapped) == pytest.approx(1 / 3)
    assert found["mrr_full"] - found["mrr_reused"] == pytest.approx(0.25)


def test_the_rank_of_the_right_passage() -> None:
    assert [reciprocal_rank((0.1, 0.3, 0.2), i) for i in range(3)] == [1 / 3, 1, 1 / 2]


def test_every_list_holds_its_right_passage_once_where_it_says() -> None:
    for asked in python_reference(90, 10, seed=3):
        topic = asked.question.removeprefix("How does ").removesuffix(" work in Python?")
        assert len(set(asked.passages)) == 10
        assert asked.passages[asked.right] == topics[topic][:900]
