"""What is searched for where other turns stand before a question."""

from collections.abc import Sequence

import numpy as np
import pytest

from actors.retrieval.asked import vectors_of
from actors.retrieval.embedding import Vectors


class Letters:
    """Unit vectors of how often a, b and c occur."""

    fingerprint, dim = "letters", 3

    def __init__(self) -> None:
        self.passes: list[list[str]] = []

    def embed(self, texts: Sequence[str]) -> Vectors:
        self.passes.append(list(texts))
        counts = np.array([[text.count(letter) for letter in "abc"] for text in texts], np.float32)
        unit: Vectors = counts / np.linalg.norm(counts, axis=1, keepdims=True)
        return unit

    def fits(self, text: str) -> bool:
        return len(text) <= 5


def test_a_follow_up_is_searched_for_by_itself_and_with_the_turns_before_it() -> None:
    letters = Letters()
    follows, alone, cut = vectors_of([(("b",), "a"), ((), "c"), (("bbbbbb",), "a")], letters)
    half = np.array([1 + 2**-0.5, 2**-0.5, 0])
    assert follows == pytest.approx(half / np.linalg.norm(half))
    assert alone.tolist() == [0, 0, 1]
    assert cut.tolist() == [1, 0, 0], "a turn that does not fit is not searched for"
    assert letters.passes == [["a", "c", "b\na"]], "one pass, each text once"


def test_the_nearest_passages_have_the_highest_mean_of_both_similarities() -> None:
    letters = Letters()
    asked = (("b",), "a")
    (vector,) = vectors_of([asked], letters)
    passages = letters.embed(["aab", "abb", "ac", "b", "cc", "aabbc"])
    own, whole = letters.embed(["a", "b\na"])
    assert np.argsort(passages @ vector).tolist() == np.argsort(passages @ (own + whole)).tolist()
