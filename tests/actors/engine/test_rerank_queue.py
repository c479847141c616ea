"""The queue over the real engine: cancelled work gives its place back, failing work fails alone."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from actors.engine.asking import Ask
from actors.engine.config import RerankerConfig
from actors.engine.rerank import RerankEngine
from actors.engine.runtime import Runtime
from actors.errors import ActorError, ExpiredError
from actors.messages import RerankRequest, RerankResult
from actors.rerank_queue import RerankQueue
from actors.work_meter import WAITING
from kvstore.supervised import Supervisor
from tests.actors.engine.texts import PASSAGES, QUESTIONS

CONFIG = RerankerConfig(max_waiting=4, batch_tokens=64, batch_latency_s=60)
"""Passes of one passage each."""


def nothing() -> None:
    pass


def request(question: str, *texts: str) -> RerankRequest:
    return RerankRequest("r", "t", question, texts, 60)


@pytest.fixture
def engine(runtime: Runtime) -> RerankEngine:
    return RerankEngine(runtime, CONFIG, None)


def held(queue: RerankQueue) -> threading.Event:
    """The engine thread waits until this is set."""
    release, begun = threading.Event(), threading.Event()

    def hold() -> bool:
        begun.set()
        return release.wait(60)

    queue.run(hold)
    assert begun.wait(60)
    return release


def test_what_is_cancelled_while_it_waits_takes_no_place(engine: RerankEngine) -> None:
    queue = RerankQueue(engine, CONFIG, Supervisor())
    release = held(queue)
    for _ in range(3):
        for future in [queue.submit(request("why?", "x"), nothing) for _ in range(3)]:
            assert future.cancel()
    assert (queue.num_open, len(queue._queue)) == (1, 0)
    assert queue.meter.stats()[WAITING] == 0
    left = queue.submit(request(QUESTIONS[0], PASSAGES[0]), nothing)
    release.set()
    assert len(left.result(60).log_likelihoods) == 1


def test_what_is_cancelled_while_it_is_scored_ends_before_the_next_pass(
    engine: RerankEngine,
) -> None:
    queue, passes = RerankQueue(engine, CONFIG, Supervisor()), list[int]()
    future, begun, go_on = None, threading.Event(), threading.Event()
    score = engine._passes._scored

    def counted(part: Any, batch: Any) -> Any:
        passes.append(len(part))
        begun.set()
        assert go_on.wait(60)
        return score(part, batch)

    engine._passes._scored = counted  # type: ignore[method-assign]
    future = queue.submit(request(QUESTIONS[0], *PASSAGES), nothing)
    assert begun.wait(60)
    assert not future.cancel()
    go_on.set()
    with pytest.raises(ExpiredError, match="nobody waits"):
        future.result(60)
    assert len(passes) == 1 and queue.run(lambda: 7).result(60) == 7


def test_precomputing_ends_when_nobody_waits_for_it(runtime: Runtime, client: Any) -> None:
    """Each passage is a stage: the one under way is stored, no other is begun."""
    engine = RerankEngine(runtime, CONFIG, client)
    asked = 0

    def abandoned() -> bool:
        nonlocal asked
        asked += 1
        return asked > 1

    report = engine.precompute("t", PASSAGES[:4], 60, abandoned)
    assert report.computed == 1
    again = engine.precompute("t", PASSAGES[:4], 60)
    assert (again.dram_hits, again.computed) == (1, 3)


class Read(list[str]):
    """Texts that count who reads them, and call `then` behind the third."""

    def __init__(self, texts: Sequence[str], then: Callable[[], None]) -> None:
        super().__init__(texts)
        self.num, self._then = 0, then

    def __iter__(self) -> Iterator[str]:
        for text in super().__iter__():
            self.num += 1
            if self.num == 3:
                self._then()
            yield text


@pytest.mark.parametrize("end", ["gone", "late"])
def test_texts_are_tokenized_while_somebody_waits(engine: RerankEngine, end: str) -> None:
    """The others of the batch have their answers."""
    gone = threading.Event()
    deadline = time.monotonic() + (2 if end == "late" else 60)

    def ended() -> None:
        if end == "gone":
            gone.set()
        else:
            time.sleep(max(0, deadline - time.monotonic()))

    texts = Read(PASSAGES, ended)
    asks = [
        Ask(QUESTIONS[0], texts, deadline, gone.is_set),
        Ask(QUESTIONS[1], PASSAGES[:2], time.monotonic() + 60),
    ]
    outcomes = dict(engine.score_batch("t", asks))
    assert isinstance(outcomes[0], ExpiredError) and texts.num == 3 < len(PASSAGES)
    assert isinstance(outcomes[1], RerankResult) and len(outcomes[1].log_likelihoods) == 2


class Spoilt(RerankEngine):
    """Fails wherever one question takes part."""

    def score_batch(
        self, tenant: str, asks: Sequence[Ask]
    ) -> Iterator[tuple[int, RerankResult | ActorError]]:
        if any(ask.question == QUESTIONS[1] for ask in asks):
            raise RuntimeError("a question that breaks its pass")
        return super().score_batch(tenant, asks)


def test_a_question_that_breaks_its_batch_fails_alone(runtime: Runtime) -> None:
    threads = Supervisor()
    queue = RerankQueue(Spoilt(runtime, CONFIG, None), CONFIG, threads)
    queue.submit(request(QUESTIONS[0], PASSAGES[0]), nothing).result(60)  # its speed is known now
    release = held(queue)
    asked = [queue.submit(request(q, PASSAGES[0]), nothing) for q in QUESTIONS[:3]]
    release.set()
    for i in (0, 2):
        assert len(asked[i].result(60).log_likelihoods) == 1
    with pytest.raises(RuntimeError, match="breaks its pass"):
        asked[1].result(60)
    assert threads.gone() == []


def test_a_request_that_cannot_begin_fails_alone(engine: RerankEngine) -> None:
    queue = RerankQueue(engine, CONFIG, Supervisor())

    def refuse() -> None:
        raise RuntimeError("no announcement to end")

    bad = queue.submit(request(QUESTIONS[0], PASSAGES[0]), refuse)
    with pytest.raises(RuntimeError, match="announcement"):
        bad.result(60)
    assert queue.submit(request(QUESTIONS[0], PASSAGES[0]), nothing).result(60)
