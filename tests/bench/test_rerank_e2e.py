"""The parts of the scenario that need no service of ours: questions, arrivals, ladder, client."""

import random
import statistics
import time
from collections import Counter
from typing import Any

import pytest

from actors.engine.config import ModelConfig
from tests.bench.harness import CannotRun
from tests.bench.rerank_e2e.ladder import highest
from tests.bench.rerank_e2e.load import Target, arrivals, percentile
from tests.bench.rerank_e2e.topics import QUESTION_TOKENS, Topics, load_tokenizer, zipf
from tests.hyperrag.conftest import Service, answer, service

__all__ = ["answer", "service"]

ROUTE = "POST /v1/rag/query"


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer(ModelConfig())


@pytest.fixture(scope="module")
def topics(tokenizer: Any) -> Topics:
    return Topics(tokenizer, num=4, passages=5, passage_tokens=64, seed=0)


def test_texts_have_exactly_their_tokens(tokenizer: Any, topics: Topics) -> None:
    asked = topics.questions(20, 0, random.Random(0))
    for texts, num in (([d.text for d in topics.documents], 64), (asked, QUESTION_TOKENS)):
        ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
        assert {len(row) for row in ids} == {num}


def test_topics_share_no_word_and_a_question_stays_with_one(topics: Topics) -> None:
    words = [set(d.text.split()) for d in topics.documents]
    assert not words[0] & words[5] and words[0] & words[1]
    for question in topics.questions(20, 0, random.Random(0)):
        assert sum(bool(set(question.split()) & words[5 * topic]) for topic in range(4)) == 1


def test_questions_differ_while_their_topics_follow_zipf(topics: Topics) -> None:
    asked = topics.questions(2000, 1, random.Random(1))
    assert len(set(asked)) == 2000
    first = [set(topics.documents[5 * topic].text.split()) for topic in range(4)]
    counts = Counter(
        max(range(4), key=lambda topic: len(first[topic] & set(question.split())))
        for question in asked
    )
    for topic, share in enumerate(zipf(4, 1.0)):
        assert counts[topic] / 2000 == pytest.approx(share, abs=0.04)


def test_zipf_is_a_distribution() -> None:
    assert zipf(3, 1.0) == pytest.approx([6 / 11, 3 / 11, 2 / 11])
    assert zipf(4, 0.0) == [0.25] * 4


def test_arrivals_are_one_pattern_at_every_rate() -> None:
    slow, fast = arrivals(50, 0.5, seed=3), arrivals(50, 2.0, seed=3)
    assert fast == pytest.approx([at / 4 for at in slow])
    assert slow == sorted(slow) and slow[0] > 0 and slow[-1] < 100
    assert arrivals(50, 0.5, seed=4) != slow


def test_gaps_between_arrivals_are_exponential() -> None:
    due = arrivals(20_000, 10.0, seed=0)
    gaps = [b - a for a, b in zip(due, due[1:], strict=False)]
    assert statistics.mean(gaps) == pytest.approx(0.1, rel=0.01)
    assert statistics.stdev(gaps) == pytest.approx(0.1, rel=0.03)


@pytest.mark.parametrize(
    ("num", "share", "expected"),
    [(100, 0.99, 99), (99, 0.99, 99), (200, 0.99, 198), (4, 0.5, 2), (5, 0.5, 3), (1, 0.99, 1)],
)
def test_percentiles_are_nearest_ranks(num: int, share: float, expected: int) -> None:
    values = [float(v) for v in range(num, 0, -1)]
    assert percentile(values, share) == expected


@pytest.mark.parametrize(("limit", "expected"), [(0.5, None), (1, 1), (3, 2), (7.9, 4), (99, 8)])
def test_the_highest_rate_is_found_with_few_attempts(limit: float, expected: float | None) -> None:
    tried: list[float] = []

    def sustained(rate: float) -> bool:
        tried.append(rate)
        return rate <= limit

    assert highest((1, 2, 4, 8), sustained) == expected
    assert len(tried) <= 3 and len(set(tried)) == len(tried)


def test_an_open_loop_sends_when_a_request_is_due(
    service: Service, answer: dict[str, Any], topics: Topics
) -> None:
    service.script.reply(ROUTE, answer)
    target = Target(service.url, {"top_n": 5}, topics, seed=0)
    load = target.load(rate=40.0, num=20, timeout_s=5.0)
    assert not load.failed and len(load.replies) == 20
    row = load.row()
    assert row["requests"] == 20 and row["qps"] == 40.0
    assert 0 < row["p50_s"] <= row["p99_s"]
    assert row["hit_share"] == 0.95 and row["rerank_s"] == 0.02
    bodies = [asked.body for asked in service.script.asked]
    assert len({body["question"] for body in bodies}) == 20
    assert all(body["top_n"] == 5 for body in bodies)


def test_a_failure_ends_the_load_and_is_no_latency(
    service: Service, answer: dict[str, Any], topics: Topics
) -> None:
    service.script.reply(ROUTE, answer)
    service.script.reply(ROUTE, {"error": {"message": "overloaded"}}, status=429)
    service.script.reply(ROUTE, answer)
    load = Target(service.url, {}, topics, seed=0).load(rate=2.0, num=20, timeout_s=5.0)
    assert load.failed and load.row() == {"qps": 2.0, "requests": 20, "failed": True}
    assert len(service.script.asked) < 20  # two of the load, one that drains; not all twenty


def test_a_closed_loop_counts_what_is_answered(
    service: Service, answer: dict[str, Any], topics: Topics
) -> None:
    service.script.reply(ROUTE, answer)
    started = time.monotonic()
    rate = Target(service.url, {}, topics, seed=0).capacity(10)
    assert rate >= 10 / (time.monotonic() - started)
    assert len(service.script.asked) == 10


def test_a_service_that_fails_while_unloaded_ends_the_run(service: Service, topics: Topics) -> None:
    service.script.reply(ROUTE, {"error": {"message": "no model"}}, status=503)
    with pytest.raises(CannotRun, match="HTTP 503.*no model"):
        Target(service.url, {}, topics, seed=0).capacity(2)
