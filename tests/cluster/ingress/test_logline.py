"""One line per request: what it says, and what it never says."""

import json
import logging
from hashlib import sha256
from typing import Any

import httpx
import pytest

from actors.errors import OverloadedError
from cluster.ingress.keys import ApiKeys, Caller
from cluster.services import Services
from tests.cluster.ingress.conftest import MakeApp, connect
from tests.cluster.ingress.test_app import failing
from tests.cluster.ingress.test_tracing import SPAN, TRACE


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "hyperrag.requests")
    return caplog


def lines(log: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [json.loads(r.message) for r in log.records if r.name == "hyperrag.requests"]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_question_says_what_it_cost(
    filled: httpx.AsyncClient, log: pytest.LogCaptureFixture, stream: bool
) -> None:
    body = {"question": "is the sky blue", "top_k": 1, "stream": stream}
    headers = {"X-Request-Id": "abc-1", "traceparent": f"00-{TRACE}-{SPAN}-01"}
    response = await filled.post("/v1/rag/query", json=body, headers=headers)
    *_, line = lines(log)
    span_id = response.headers["traceresponse"].split("-")[2]
    assert line.pop("time").endswith("+00:00")
    stages = line.pop("stages_ms")
    assert set(stages) == {"search", "rerank", "generate", "ttft", "total"}
    assert line.pop("ms") >= stages["total"]
    assert line == {
        "request_id": "abc-1",
        "trace_id": TRACE,
        "span_id": span_id,
        "parent_id": SPAN,
        "method": "POST",
        "route": "/v1/rag/query",
        "status": 200,
        "tenant": "default",
        "prompt_tokens": 10,
        "completion_tokens": 4,
        "cache": {
            "rerank": {"computed": 3, "store": "used"},
            "generate": {"tokens_reused": 7, "store": "used"},
        },
    }


async def test_one_line_for_each_by_the_pattern_of_its_route(
    filled: httpx.AsyncClient, log: pytest.LogCaptureFixture
) -> None:
    await filled.delete("/v1/documents/sky", headers={"X-Request-Id": "abc-1"})
    await filled.get("/secret-path")
    first, second = lines(log)[-2:]
    assert (first["request_id"], first["route"]) == ("abc-1", "/v1/documents/{document_id:path}")
    assert (second["route"], second["status"], second["error"]) == (None, 404, "no_endpoint")
    assert "stages_ms" not in first and "cache" not in first, "it came to none"


async def test_a_rerank_reports_its_cache(
    client: httpx.AsyncClient, log: pytest.LogCaptureFixture
) -> None:
    await client.post("/v1/rerank", json={"query": "sky", "documents": ["the sky", "snow"]})
    (line,) = lines(log)
    assert line["cache"] == {"rerank": {"computed": 2, "store": "used"}}


async def test_an_error_says_its_code_also_behind_a_stream(
    make_app: MakeApp, services: Services, log: pytest.LogCaptureFixture
) -> None:
    parts = failing(services, OverloadedError("the generator's queue"))
    body = {"prompt": "x", "hyperrag": {"retrieve": False}}
    async with connect(make_app(parts=parts)) as http:
        await http.post("/v1/completions", json=body)
        await http.post("/v1/completions", json={**body, "stream": True})
        await http.post("/v1/completions", json={**body, "max_tokens": 0})
    told = [(line["status"], line["error"]) for line in lines(log)]
    assert told == [(429, "overloaded"), (200, "overloaded"), (400, "invalid_value")]


async def test_neither_text_nor_keys_are_logged(
    make_app: MakeApp, log: pytest.LogCaptureFixture
) -> None:
    keys = ApiKeys({sha256(b"secret-key").digest(): Caller("acme")})
    headers = {"Authorization": "Bearer secret-key", "traceparent": "secret"}
    async with connect(make_app(keys=keys)) as http:
        document = {"id": "secret-id", "text": "secret text", "collection": "secret-collection"}
        await http.post("/v1/documents", json=document, headers=headers)
        asked = {"question": "secret", "collection": "secret-collection", "stream": True}
        await http.post("/v1/rag/query", json=asked, headers=headers)
        await http.delete("/v1/documents/secret-id", headers=headers)
        await http.get("/secret-path?key=secret-key", headers={"Authorization": "Bearer secret"})
    assert [line["tenant"] for line in lines(log)] == ["acme", "acme", "acme", None]
    assert "secret" not in log.text
