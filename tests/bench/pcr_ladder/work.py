"""What is asked, and when: two passages and a question, Poisson arrivals."""

import queue
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from actors.announcements import Announcement
from actors.engine.batcher import Batcher
from actors.engine.generate import GenerateEngine
from actors.errors import ActorError
from actors.messages import GenerateChunk, GenerateRequest, Message, Sampling
from tests.bench.rerank_reuse import words

FIRST_TOKENS, SECOND_TOKENS, QUESTION_TOKENS, NEW_TOKENS = 384, 192, 32, 4
ZIPF = 1.0
NEW_SHARES = (0.25, 0.15)
"""Of the requests whose second passage alone, and whose passages both, nobody has asked for."""
_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class Answer:
    ttft_s: float
    text: str


@dataclass(frozen=True, slots=True)
class Work:
    """Every document's usual pair once, to fill the tiers; then what is measured."""

    warm_up: list[GenerateRequest]
    requests: list[GenerateRequest]

    @property
    def arrivals(self) -> list[float]:
        """Times of a Poisson process of rate 1 that has so many in as many units of time: the load
        is what it is said to be, however short the run."""
        rng, num = random.Random(len(self.requests)), len(self.requests)
        return sorted(rng.uniform(0, num) for _ in range(num))


def make_work(decoder: Any, num_documents: int, num_requests: int, rng: random.Random) -> Work:
    def pair() -> tuple[str, str]:
        return words(decoder, rng, FIRST_TOKENS), words(decoder, rng, SECOND_TOKENS)

    usual = [pair() for _ in range(num_documents)]
    weights = [1 / (rank + 1) ** ZIPF for rank in range(num_documents)]
    pairs = []
    for known in rng.choices(usual, weights, k=num_requests):
        new, draw = pair(), rng.random()
        num_kept = 2 - (draw < sum(NEW_SHARES)) - (draw < NEW_SHARES[1])
        pairs.append((*known[:num_kept], *new[num_kept:]))
    asked = [words(decoder, rng, QUESTION_TOKENS) for _ in range(num_documents + num_requests)]
    every = [_request(p, q) for p, q in zip([*usual[::-1], *pairs], asked, strict=True)]
    return Work(every[:num_documents], every[num_documents:])


def one_by_one(batcher: Batcher, requests: Sequence[GenerateRequest]) -> float:
    """Seconds for all of them, each after the one before."""
    start = time.monotonic()
    for request in requests:
        chunks: queue.Queue[GenerateChunk | Exception] = queue.Queue()
        batcher.submit(request, chunks.put)
        _answer(chunks)
    return time.monotonic() - start


def open_loop(
    batcher: Batcher, engine: GenerateEngine, work: Work, requests_per_s: float
) -> list[Answer]:
    """Answers of requests that arrive whatever else waits, announced as the generator does."""
    start, waiting = time.monotonic(), []
    for i, (request, at) in enumerate(zip(work.requests, work.arrivals, strict=True)):
        time.sleep(max(0.0, start + at / requests_per_s - time.monotonic()))
        waiting.append(_submitted(batcher, engine, request, str(i)))
    return [_answer(chunks) for chunks in waiting]


def _submitted(
    batcher: Batcher, engine: GenerateEngine, request: GenerateRequest, name: str
) -> "queue.Queue[GenerateChunk | Exception]":
    announcement = Announcement(lambda: engine.announce(name, request), lambda: engine.retire(name))
    waits = batcher.must_wait
    chunks: queue.Queue[GenerateChunk | Exception] = queue.Queue()
    batcher.submit(request, chunks.put, announcement.end)
    if waits:
        announcement.make()
    return chunks


def _answer(chunks: "queue.Queue[GenerateChunk | Exception]") -> Answer:
    pieces = list(_chunks(chunks))
    return Answer(pieces[-1].ttft_s, "".join(piece.text for piece in pieces))


def _chunks(chunks: "queue.Queue[GenerateChunk | Exception]") -> Iterator[GenerateChunk]:
    while True:
        item = chunks.get(timeout=_TIMEOUT_S)
        if isinstance(item, Exception):
            assert isinstance(item, ActorError)
            raise item
        yield item
        if item.finish_reason is not None:
            return


def _request(passages: tuple[str, ...], question: str) -> GenerateRequest:
    asked = (Message("user", question),)
    return GenerateRequest("bench", "bench", asked, passages, Sampling(NEW_TOKENS), _TIMEOUT_S)
