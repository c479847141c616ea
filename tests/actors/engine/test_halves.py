"""A question that follows other turns is scored by itself and behind them."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from actors.engine.asking import Ask
from actors.engine.halves import Outcome, in_halves
from actors.errors import ExpiredError
from actors.messages import CacheReport, RerankResult


def ask(question: str, *earlier: str) -> Ask:
    return Ask(question, ["x", "y"], time.monotonic() + 60, earlier=earlier)


def halves_of(ask: Ask) -> list[Ask]:
    return [replace(ask, earlier=()), *([ask] if ask.earlier else [])]


def result(first: float, second: float) -> RerankResult:
    return RerankResult((first, second), 10, CacheReport(dram_hits=2), 0.5)


def test_a_passage_has_the_mean_of_both_scores_as_soon_as_both_are_there() -> None:
    said: list[tuple[str, tuple[str, ...]]] = []
    outcomes: list[tuple[int, Outcome]] = [
        (1, result(-1, -4)),
        (0, result(-3, -5)),
        (2, result(-2, -3)),
    ]

    def score(halves: Sequence[Ask]) -> Iterator[tuple[int, Outcome]]:
        said.extend((half.question, half.earlier) for half in halves)
        yield from outcomes

    asks = [ask("and it?", "who?"), ask("why?")]
    (first, both), (second, alone) = in_halves(asks, halves_of, score)
    assert said == [("and it?", ()), ("and it?", ("who?",)), ("why?", ())]
    assert (first, second) == (0, 1)
    assert both == RerankResult((-2, -4.5), 20, CacheReport(dram_hits=4), 0.5)
    assert alone == outcomes[2][1]


@pytest.mark.parametrize("failing", [0, 1])
def test_an_error_of_either_half_is_the_questions_and_is_said_once(failing: int) -> None:
    error = ExpiredError("too late")

    def score(halves: Sequence[Ask]) -> Iterator[tuple[int, Outcome]]:
        for i in range(len(halves)):
            yield i, error if i == failing else result(-1, -2)

    assert list(in_halves([ask("and it?", "who?")], halves_of, score)) == [(0, error)]
