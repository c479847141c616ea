"""What holds for every endpoint: JSON errors, limits, ids, cancellation."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest
from ray.serve.exceptions import BackPressureError
from starlette.types import ASGIApp, Message

from actors.errors import ExpiredError, OverloadedError, RequestError, UnavailableError
from actors.messages import GenerateChunk, GenerateRequest
from cluster.errors import ReplicaLostError
from cluster.remote import translated
from cluster.services import Services
from tests.cluster.ingress.conftest import connect
from tests.cluster.ingress.test_rag import events

MakeApp = Callable[..., ASGIApp]


class Failing:
    """A corpus whose listing fails, and a generator that fails after a word."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def list_documents(self, *args: Any) -> None:
        raise self.error

    async def status(self, timeout_s: float) -> None:
        raise self.error

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[GenerateChunk]:
        yield GenerateChunk("the ")
        raise self.error


def failing(services: Services, error: Exception) -> Services:
    part: Any = Failing(error)
    return replace(services, corpus=part, generator=part)


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (RequestError("limit", "is 7, allowed 1 to 5"), 400, "invalid_request_error"),
        (OverloadedError("the queue", 2.5), 429, "rate_limit_error"),
        (ExpiredError("too late"), 504, "timeout_error"),
        (UnavailableError("no model"), 503, "unavailable_error"),
        (ReplicaLostError("corpus", "killed"), 503, "unavailable_error"),
        (KeyError("a bug"), 500, "server_error"),
    ],
)
async def test_every_error_is_json_in_three_dialects(
    make_app: MakeApp, services: Services, error: Exception, status: int, kind: str
) -> None:
    async with connect(make_app(parts=failing(services, error))) as http:
        response = await http.get("/v1/documents")
    assert response.status_code == status
    data = response.json()
    assert data["error"]["type"] == kind
    assert data["detail"] == data["message"] == data["error"]["message"]
    assert ("Retry-After" in response.headers) == (status in (429, 503))
    if status == 429:
        assert response.headers["Retry-After"] == "3"
    assert "a bug" not in response.text


async def test_serves_backpressure_is_a_429(make_app: MakeApp, services: Services) -> None:
    with pytest.raises(OverloadedError) as caught, translated("corpus"):
        raise BackPressureError(3, 2, 503, 4.0)
    async with connect(make_app(parts=failing(services, caught.value))) as http:
        response = await http.get("/v1/documents")
    assert (response.status_code, response.headers["Retry-After"]) == (429, "4")


async def test_malformed_json_is_a_400(client: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "application/json"}
    for path in ("/v1/rag/query", "/v1/documents", "/v1/rerank"):
        for body in (b"{", b'{"question": "\xff"}', b"[" * 100_000):
            response = await client.post(path, content=body, headers=headers)
            assert response.status_code == 400, path
            assert response.json()["error"]["code"] == "invalid_request"


async def test_a_body_that_is_no_object_is_refused(client: httpx.AsyncClient) -> None:
    bodies: list[Any] = [[], "x", 5, None]
    for body in bodies:
        response = await client.post("/v1/rag/query", json=body)
        assert response.status_code == 400
        assert response.json()["error"]["param"] == "body"


async def test_unknown_paths_and_methods(client: httpx.AsyncClient) -> None:
    response = await client.get("/v1/nothing")
    assert (response.status_code, response.json()["error"]["code"]) == (404, "no_endpoint")
    response = await client.get("/v1/rerank")
    assert (response.status_code, response.headers["Allow"]) == (405, "POST")
    assert "POST" in response.json()["message"]


@pytest.mark.parametrize("path", ["/v1/rag/query", "/v1/documents", "/v1/rerank"])
async def test_a_large_body_is_refused_while_it_is_read(make_app: MakeApp, path: str) -> None:
    async def body() -> AsyncGenerator[bytes]:
        for _ in range(100):
            yield b"x" * 100

    async with connect(make_app(max_body_bytes=1000)) as http:
        headers = {"Content-Type": "application/json"}
        for content in (body(), b"x" * 1001):
            response = await http.post(path, content=content, headers=headers)
            assert response.status_code == 413
            assert response.json()["error"]["code"] == "body_too_large"
        files = {"file": ("a.txt", b"x" * 2000)}
        response = await http.post("/v1/documents", files=files)
        assert response.status_code == 413


async def test_request_ids_are_taken_made_and_checked(client: httpx.AsyncClient) -> None:
    response = await client.get("/healthz", headers={"X-Request-Id": "abc-1"})
    assert response.headers["X-Request-Id"] == "abc-1"
    made = {(await client.get("/healthz")).headers["X-Request-Id"] for _ in range(2)}
    assert len(made) == 2
    for bad in ("a b", "x" * 129):
        response = await client.get("/healthz", headers={"X-Request-Id": bad})
        assert response.status_code == 400
        assert response.headers["X-Request-Id"] != bad


def slow_question(app: ASGIApp, leave: asyncio.Event) -> asyncio.Task[list[Message]]:
    """A streamed question whose client leaves when told to; the messages it got."""
    body = json.dumps({"question": "slowly is the sky blue", "stream": True}).encode()
    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "method": "POST",
        "path": "/v1/rag/query",
        "raw_path": b"/v1/rag/query",
        "query_string": b"",
        "headers": headers,
        "root_path": "",
        "http_version": "1.1",
        "scheme": "http",
    }
    asked, sent = asyncio.Event(), []

    async def receive() -> Message:
        if not asked.is_set():
            asked.set()
            return {"type": "http.request", "body": body, "more_body": False}
        await leave.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    async def run() -> list[Message]:
        await app(scope, receive, send)
        return sent

    return asyncio.create_task(run())


async def test_a_client_that_leaves_cancels_the_generator(
    make_app: MakeApp, services: Services
) -> None:
    app = make_app()
    async with connect(app) as http:
        await http.post("/v1/documents", json={"text": "the sky is blue"})
    leave = asyncio.Event()
    question = slow_question(app, leave)
    await asyncio.sleep(1.3)  # the first of four words is out
    leave.set()
    sent = await asyncio.wait_for(question, 5)
    assert len([m for m in sent if m.get("body")]) < 4
    generator: Any = services.generator
    assert generator.part.cancelled == 1


async def test_too_many_requests_are_refused_but_not_probes(make_app: MakeApp) -> None:
    app = make_app(max_queued_requests=1)
    async with connect(app) as http:
        await http.post("/v1/documents", json={"text": "the sky is blue"})
        leave = asyncio.Event()
        question = slow_question(app, leave)
        await asyncio.sleep(0.3)
        response = await http.get("/v1/models")
        assert response.status_code == 429
        assert int(response.headers["Retry-After"]) >= 1
        assert (await http.get("/readyz")).status_code == 200
        leave.set()
        await asyncio.wait_for(question, 5)
        assert (await http.get("/v1/models")).status_code == 200


async def test_an_error_after_the_first_word_is_an_event(
    make_app: MakeApp, services: Services
) -> None:
    parts = failing(services, ReplicaLostError("generator", "killed"))
    body = {"prompt": "x", "hyperrag": {"retrieve": False}}
    async with connect(make_app(parts=parts)) as http:
        streamed = await http.post("/v1/completions", json={**body, "stream": True})
        whole = await http.post("/v1/completions", json=body)
    word, error = events(streamed.text)
    assert word["choices"][0]["text"] == "the "
    assert error["error"]["type"] == "unavailable_error"
    assert "broke off" in error["error"]["message"]
    assert whole.status_code == 503
    assert int(whole.headers["Retry-After"]) >= 1
