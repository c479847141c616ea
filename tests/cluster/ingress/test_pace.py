"""What cannot be done in time is refused when it comes, and nothing else is."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from time import monotonic
from typing import Any

import httpx
import pytest

from actors.engine.config import GeneratorConfig
from actors.messages import GenerateChunk, GenerateRequest
from cluster.config import HyperRagConfig
from cluster.ingress.pace import Pace, TooLateError
from cluster.services import Services
from tests.cluster.ingress.conftest import MakeApp, connect

ASK = {"prompt": "go on", "hyperrag": {"retrieve": False}}
EACH_S = 0.1
LIMIT_S = 3.0


class OneByOne:
    """A generator that answers one request after another."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[GenerateChunk]:
        async with self._turn:
            await asyncio.sleep(EACH_S)
            yield GenerateChunk("word ")
        yield GenerateChunk("", "stop", 1, 1)


@pytest.mark.parametrize("stream", [False, True])
async def test_of_a_crowd_as_many_come_in_as_can_be_answered(
    make_app: MakeApp, services: Services, stream: bool
) -> None:
    parts: Any = replace(services, generator=OneByOne())  # type: ignore[arg-type]
    config = HyperRagConfig(generator=GeneratorConfig(max_batch=1))
    body = {**ASK, "stream": stream}
    async with connect(make_app(parts=parts, config=config, request_timeout_s=LIMIT_S)) as http:

        async def asked() -> tuple[httpx.Response, float]:
            response = await http.post("/v1/completions", json=body)
            return response, monotonic()

        for _ in range(3):  # one after another: from these it is known how long one takes
            await asked()
        answers = await asyncio.gather(*(asked() for _ in range(100)))
        late = await asked()
    found = [(response.status_code, at) for response, at in answers]
    assert {status for status, _ in found} == {200, 429}, "none in vain until its time was up"
    assert sum(status == 200 for status, _ in found) >= 5
    assert max(at for s, at in found if s == 429) < max(at for s, at in found if s == 200)
    [refused, *_] = [response for response, _ in answers if response.status_code == 429]
    assert 1 <= int(refused.headers["Retry-After"]) <= LIMIT_S
    assert refused.json()["error"]["code"] == "overloaded"
    assert f"{LIMIT_S:g} s (ingress.request_timeout_s)" in refused.json()["message"]
    assert late[0].status_code == 200, "there is room again"
    if stream:
        assert all("error" not in response.text for response, _ in answers if response.is_success)


async def test_nobody_is_refused_where_nothing_is_known(
    make_app: MakeApp, services: Services
) -> None:
    parts: Any = replace(services, generator=OneByOne())  # type: ignore[arg-type]
    async with connect(make_app(parts=parts, request_timeout_s=60)) as http:
        asked = (http.post("/v1/completions", json=ASK) for _ in range(20))
        assert {response.status_code for response in await asyncio.gather(*asked)} == {200}
        paths = (http.post(f"/v1/nothing-{i}", json={}) for i in range(20))
        assert {response.status_code for response in await asyncio.gather(*paths)} == {404}


def full_of(num_open: int, places: int, *seconds: float) -> Pace:
    """After such requests, each of which came when so many were in progress."""
    pace = Pace()
    for one in seconds:
        pace.ended(num_open, places, one, first_s=one)
    return pace


def test_one_that_found_nothing_in_the_store_is_not_taken_for_all() -> None:
    pace = full_of(1, 1, 40)
    pace.num_open = 100
    assert pace.expected_s() == 0, "too little is known"
    for _ in range(2):
        pace.ended(1, 1, 0.1, 0.1)
    assert pace.expected_s() == pytest.approx(100 * 0.1 + 0.1)


def test_who_need_not_wait_is_never_refused() -> None:
    pace = full_of(1, 8, *(20 * (50.0,)))
    pace.num_open = 7
    pace.check(limit_s=10)
    pace.num_open = 8
    with pytest.raises(TooLateError):
        pace.check(limit_s=10)


def test_a_full_service_tells_how_often_one_ends() -> None:
    pace = full_of(1, 4, *(16 * (4.0,)))
    pace.num_open = 4
    assert pace.expected_s() == 1 + 4, "at the best"
    for _ in range(16):  # eight at a time, each of which takes as long as the eight before it
        pace.ended(8, 4, seconds=16, first_s=13)
    assert pace.expected_s() == 2 + 4, "without the wait of those that waited"
    pace.num_open = 23
    with pytest.raises(TooLateError) as caught:
        pace.check(limit_s=48)
    assert (caught.value.expected_s, caught.value.retry_after_s) == (44, 44 - 36)
    pace.num_open = 19
    pace.check(limit_s=48)
    for _ in range(16):  # what is asked takes less now
        pace.ended(2, 4, seconds=0.4, first_s=0.2)
    pace.num_open = 200
    pace.check(limit_s=48)


def test_whose_time_was_up_tells_the_least_that_it_takes() -> None:
    pace = full_of(1, 1, 0.1, 0.1, 0.1)
    for _ in range(4):
        pace.expired(num_open=10, seconds=10)
        pace.expired(num_open=1000, seconds=10)
    pace.num_open = 1
    assert pace.expected_s() == 1 + 0.1
