"""Slow bodies, slow answers and many probes."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from time import monotonic
from typing import Any

import pytest

from cluster.services import Services
from tests.cluster.ingress.conftest import MakeApp, connect
from tests.cluster.listening import listening
from tests.cluster.near import NearGenerator
from tests.cluster.raw_http import begun

JSON = {"Content-Type": "application/json"}
ASK = b'{"prompt": "the sky", "hyperrag": {"retrieve": false}}'


async def pieces(*pauses_s: float) -> AsyncGenerator[bytes]:
    """ASK, whose pieces come after these pauses."""
    size = -(-len(ASK) // len(pauses_s))
    for i, pause_s in enumerate(pauses_s):
        await asyncio.sleep(pause_s)
        yield ASK[i * size : (i + 1) * size]


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/documents", "/v1/warm"])
async def test_a_body_that_stops_is_a_408(make_app: MakeApp, path: str) -> None:
    async with connect(make_app(body_timeout_s=0.3)) as http:
        response = await http.post(path, content=pieces(0.0, 9.0), headers=JSON)
    assert response.status_code == 408
    assert response.json()["error"]["code"] == "body_timeout"
    assert "for 0.3 s (ingress.body_timeout_s)" in response.json()["message"]


async def test_a_body_that_trickles_has_the_requests_time(make_app: MakeApp) -> None:
    async with connect(make_app(request_timeout_s=0.5)) as http:
        response = await http.post("/v1/completions", content=pieces(*(50 * (0.1,))), headers=JSON)
    assert response.status_code == 408
    assert "within 0.5 s (ingress.request_timeout_s)" in response.json()["message"]


async def test_the_deadline_starts_with_the_first_byte(
    make_app: MakeApp, services: Services
) -> None:
    async with connect(make_app(request_timeout_s=9.0)) as http:
        slow = await http.post("/v1/completions", content=pieces(0.3, 0.3), headers=JSON)
        quick = await http.post("/v1/completions", content=ASK, headers=JSON)
    assert slow.status_code == quick.status_code == 200
    assert isinstance(services.generator, NearGenerator)
    first, second = (request.timeout_s for request in services.generator.requests)
    assert first < 8.4 and second > first


def test_a_connection_whose_body_stops_is_closed(make_app: MakeApp) -> None:
    headers = ("Content-Type: application/json", "Content-Length: 1000")
    with listening(make_app(body_timeout_s=0.3)) as url:
        answer = begun(url, "/v1/completions", *headers, body=b"{")
    assert answer.startswith(b"HTTP/1.1 408 ") and not answer.endswith(b"(open)")
    assert b"ingress.body_timeout_s" in answer


class Counted:
    """A deployment that takes its time to say how it is."""

    def __init__(self, inner: Any) -> None:
        self._inner, self.num_asked = inner, 0

    async def status(self, timeout_s: float) -> Any:
        self.num_asked += 1
        await asyncio.sleep(0.5)
        return await self._inner.status(timeout_s)


@pytest.mark.parametrize("path", ["/readyz", "/metrics"])
async def test_probes_take_no_slots_and_share_one_answer(
    make_app: MakeApp, services: Services, path: str
) -> None:
    counted = Counted(services.generator)
    parts: Any = replace(services, generator=counted)  # type: ignore[arg-type]
    async with connect(make_app(parts=parts, max_queued_requests=1)) as http:
        asked = [asyncio.create_task(http.get(path)) for _ in range(100)]
        await asyncio.sleep(0.1)
        assert (await http.get("/v1/models")).status_code == 200, "there is a slot"
        asked[0].cancel()
        answers = await asyncio.gather(*asked[1:])
    assert {response.status_code for response in answers} == {200}
    assert counted.num_asked == 1


async def test_readiness_is_asked_for_once_a_second(make_app: MakeApp, services: Services) -> None:
    counted = Counted(services.generator)
    parts: Any = replace(services, generator=counted)  # type: ignore[arg-type]
    async with connect(make_app(parts=parts)) as http:
        started = monotonic()
        while counted.num_asked < 3:
            assert (await http.get("/readyz")).status_code == 200
            await asyncio.sleep(0.01)
    assert monotonic() - started > 2.0, "the third one is two seconds after the first"


async def test_a_stream_of_pages_goes_on_and_a_page_has_a_limit(
    make_app: MakeApp, services: Services
) -> None:
    class Slowly:
        def __init__(self, inner: Any, pause_s: float) -> None:
            self._inner, self._pause_s = inner, pause_s

        async def precompute(self, request: Any) -> Any:
            await asyncio.sleep(self._pause_s)
            return await self._inner.precompute(request)

    documents = [{"id": f"{i:03}", "text": f"text {i}"} for i in range(40)]  # three pages
    for pause_s, ending in ((0.9, '"done": true'), (5.0, "2 s (ingress.ingest_timeout_s)")):
        parts: Any = replace(services, reranker=Slowly(services.reranker, pause_s))  # type: ignore[arg-type]
        async with connect(make_app(parts=parts, ingest_timeout_s=2.0)) as http:
            await http.post("/v1/documents", json={"documents": documents})
            streamed = await http.post("/v1/warm", json={"stream": True})
        assert ending in streamed.text
