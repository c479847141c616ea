"""Limits of a request in time: each says how long, and which key sets it."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from actors.errors import ExpiredError
from actors.messages import GenerateChunk, GenerateRequest, Sampling
from cluster.deadline import Deadline, Limits
from cluster.ingress.config import IngressConfig
from cluster.pipeline import Pipeline
from cluster.query import Answer, Query
from tests.cluster.near import near_services

TEXT = Query("r1", "t", None, (), Sampling(), raw_prompt="go on")
PATIENT = IngressConfig(request_timeout_s=20, token_timeout_s=20, stream_timeout_s=20)


class Paced:
    """A generator that waits so long before each of its words."""

    def __init__(self, *pauses_s: float) -> None:
        self._pauses_s = pauses_s
        self.requests: list[GenerateRequest] = []

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[GenerateChunk]:
        self.requests.append(request)
        for pause_s in self._pauses_s:
            await asyncio.sleep(pause_s)
            yield GenerateChunk("word ")
        yield GenerateChunk("", "stop", 1, len(self._pauses_s))


async def words(folder: Path, part: Any, config: IngressConfig, streamed: bool = True) -> str:
    services = replace(near_services(folder), generator=part)
    answers = Pipeline(services, 1.5, Limits(config)).answer(TEXT, streamed)
    events = [event async for event in answers]
    assert isinstance(events[-1], Answer)
    return events[-1].text


async def test_a_stream_that_makes_progress_goes_on(tmp_path: Path) -> None:
    config = replace(PATIENT, request_timeout_s=0.5)
    assert await words(tmp_path, Paced(0.0, 0.3, 0.3, 0.3), config) == 4 * "word "


@pytest.mark.parametrize(
    ("pauses", "limit", "message"),
    [
        ((9.0,), {"request_timeout_s": 0.2}, "the request took longer than 0.2 s"),
        ((0.0, 9.0), {"token_timeout_s": 0.3}, "the next token took longer than 0.3 s"),
        (200 * (0.05,), {"stream_timeout_s": 0.4}, "the stream took longer than 0.4 s"),
    ],
)
async def test_each_limit_of_a_stream_says_its_key(
    tmp_path: Path, pauses: tuple[float, ...], limit: dict[str, float], message: str
) -> None:
    with pytest.raises(ExpiredError) as caught:
        await words(tmp_path, Paced(*pauses), replace(PATIENT, **limit))  # type: ignore[arg-type]
    assert f"{message} (ingress.{next(iter(limit))})" in str(caught.value)


async def test_an_answer_in_one_piece_has_the_requests_time(tmp_path: Path) -> None:
    part = Paced(*(200 * (0.05,)))
    with pytest.raises(ExpiredError, match=r"longer than 0.4 s \(ingress.request_timeout_s\)"):
        await words(tmp_path, part, replace(PATIENT, request_timeout_s=0.4), streamed=False)
    assert part.requests[0].timeout_s <= 0.4
    await words(tmp_path / "2", part := Paced(0.0), replace(PATIENT, request_timeout_s=5))
    assert part.requests[0].timeout_s > 10, "of a stream, the stream's"


async def test_what_a_deployment_had_no_time_for_is_told_with_the_limit(tmp_path: Path) -> None:
    class Waiting:
        async def generate(self, request: GenerateRequest) -> AsyncGenerator[GenerateChunk]:
            raise ExpiredError("the request's time was up while it waited for the generator")
            yield

    with pytest.raises(ExpiredError) as caught:
        await words(tmp_path, Waiting(), PATIENT)
    assert "20 s (ingress.request_timeout_s)" in str(caught.value)
    assert "waited for the generator" in str(caught.value)


async def test_a_call_that_is_out_of_time_is_cancelled() -> None:
    cancelled = asyncio.Event()

    async def call() -> None:
        try:
            await asyncio.sleep(9)
        finally:
            cancelled.set()

    deadline = Deadline(0.1, "a.key")
    with pytest.raises(ExpiredError, match=r"0.1 s \(a.key\); meanwhile: sleeping"):
        await deadline.bound(call(), "sleeping")
    assert cancelled.is_set()
    with pytest.raises(ExpiredError, match=r"0.1 s \(a.key\)"):
        deadline.left_s()
