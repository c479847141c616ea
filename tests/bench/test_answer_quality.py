"""The parts of the scenario that need no model."""

import pytest

from tests.bench.answer_quality.answers import exact_match, f1, normalized
from tests.bench.answer_quality.budget import largest


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("The 10th-century  Norse.", "10thcentury norse"),
        ("An apple, a theme and the thing", "apple theme and thing"),
        ("U.S.", "us"),
        ("the", ""),
    ],
)
def test_normalisation_is_squads(text: str, plain: str) -> None:
    assert normalized(text) == plain


@pytest.mark.parametrize(
    ("answer", "gold", "expected"),
    [
        ("the Normans", "Normans!", 1.0),
        ("Rollo of Norway", "Rollo", 0.5),  # precision 1/3, recall 1
        ("Denmark Denmark", "Denmark", 2 / 3),  # a word counts as often as both have it
        ("Iceland", "Norway", 0.0),
        ("the", "an", 1.0),  # nothing is left of either
        ("the", "Norway", 0.0),
    ],
)
def test_f1_is_of_common_words(answer: str, gold: str, expected: float) -> None:
    assert f1(answer, gold) == pytest.approx(expected)


def test_exact_match_is_of_what_is_left() -> None:
    assert exact_match("The Normans.", "normans") == 1.0
    assert exact_match("Normans in France", "Normans") == 0.0


@pytest.mark.parametrize(("limit", "expected"), [(100, 40), (20, 20), (19, 10), (5, 5), (1, 5)])
def test_the_largest_count_that_fits(limit: int, expected: int) -> None:
    assert largest((5, 10, 20, 40), lambda count: count <= limit) == expected
