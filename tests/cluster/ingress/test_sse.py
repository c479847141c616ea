"""Streams that wait, break off, or carry characters that end lines elsewhere."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from typing import Any

import pytest
from starlette.types import ASGIApp

from actors.errors import UnavailableError
from actors.messages import GenerateChunk, GenerateRequest
from cluster.services import Services
from tests.cluster.ingress.conftest import connect
from tests.cluster.ingress.test_app import slow_question

MakeApp = Callable[..., ASGIApp]
ASKED: dict[str, dict[str, Any]] = {
    "/v1/rag/query": {"question": "the sky"},
    "/v1/completions": {"prompt": "the sky"},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "the sky"}]},
}
COMPLETE = {"prompt": "x", "stream": True, "hyperrag": {"retrieve": False}}


class Late:
    """A generator that fails, or answers, after some time."""

    def __init__(self, after_s: float, error: Exception | None = None) -> None:
        self.after_s, self.error = after_s, error

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[GenerateChunk]:
        await asyncio.sleep(self.after_s)
        if self.error:
            raise self.error
        yield GenerateChunk("word", "stop", 1, 1)


def late(services: Services, after_s: float, error: Exception | None = None) -> Services:
    part: Any = Late(after_s, error)
    return replace(services, generator=part)


@pytest.mark.parametrize("char", ["\u0085", "\u2028", "\u2029"])
@pytest.mark.parametrize("path", ASKED)
async def test_no_character_of_an_event_ends_a_line_for_any_client(
    make_app: MakeApp, path: str, char: str
) -> None:
    text = f"the sky{char}is blue"
    async with connect(make_app()) as http:
        await http.post("/v1/documents", json={"text": text})
        response = await http.post(path, json={**ASKED[path], "stream": True})
    lines = [line for line in response.text.splitlines() if line]
    assert all(line.startswith("data: ") for line in lines)
    last = json.loads(lines[-2].removeprefix("data: "))
    assert last.get("hyperrag", last)["sources"][0]["text"] == text


async def test_an_error_before_the_first_pause_is_a_plain_one(
    make_app: MakeApp, services: Services
) -> None:
    failing = late(services, 0.0, UnavailableError("no model"))
    async with connect(make_app(parts=failing)) as http:
        response = await http.post("/v1/completions", json=COMPLETE)
    assert response.status_code == 503
    assert response.json()["error"]["type"] == "unavailable_error"


async def test_an_error_after_a_pause_is_an_event(make_app: MakeApp, services: Services) -> None:
    failing = late(services, 0.3, UnavailableError("no model"))
    async with connect(make_app(parts=failing, sse_keepalive_s=0.1)) as http:
        response = await http.post("/v1/completions", json=COMPLETE)
    *comments, error, done = [line for line in response.text.split("\n") if line]
    assert response.status_code == 200
    assert comments and set(comments) == {": keep-alive"}
    assert json.loads(error.removeprefix("data: "))["error"]["message"].startswith("no model")
    assert done == "data: [DONE]"


async def test_a_stream_that_does_not_wait_carries_no_comment(
    make_app: MakeApp, services: Services
) -> None:
    async with connect(make_app(parts=late(services, 0.2), sse_keepalive_s=10)) as http:
        response = await http.post("/v1/completions", json=COMPLETE)
    assert ": " not in [line[:2] for line in response.text.split("\n")]


async def test_a_client_that_leaves_between_two_comments_cancels_the_generator(
    make_app: MakeApp, services: Services
) -> None:
    app = make_app(sse_keepalive_s=0.05)
    async with connect(app) as http:
        await http.post("/v1/documents", json={"text": "the sky is blue"})
    leave = asyncio.Event()
    question = slow_question(app, leave)
    await asyncio.sleep(1.3)
    leave.set()
    sent = await asyncio.wait_for(question, 5)
    assert sum(b"keep-alive" in m.get("body", b"") for m in sent) > 3
    generator: Any = services.generator
    await asyncio.sleep(0)
    assert generator.part.cancelled == 1
