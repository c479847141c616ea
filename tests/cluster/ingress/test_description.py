"""The OpenAPI description says of every operation what it takes and what it answers."""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from cluster.ingress.door import OPEN
from cluster.ingress.limits import PROBES
from tests.bench.api_fuzz.judging import Description
from tests.bench.api_fuzz.wire import Answer

ASKED = {"question": "what is white?"}
FILE = {"file": ("a.txt", b"rain is wet")}
TEXTS = {"query": "white", "texts": ["snow"]}
ANSWERS: list[tuple[str, str, dict[str, Any], int, str]] = [
    ("POST", "/v1/rag/query", {"json": ASKED}, 200, "application/json"),
    ("POST", "/v1/rag/query", {"json": {**ASKED, "stream": True}}, 200, "text/event-stream"),
    ("POST", "/v1/warm", {}, 200, "application/json"),
    ("POST", "/v1/warm", {"json": {"stream": True}}, 200, "text/event-stream"),
    ("POST", "/v1/check", {"json": {"repair": 7}}, 400, "application/json"),
    ("POST", "/v1/drain", {"json": {"node": 7}}, 400, "application/json"),
    ("POST", "/v1/documents", {"json": {"text": "a\0"}}, 400, "application/json"),
    ("POST", "/v1/documents", {"files": FILE}, 200, "application/json"),
    ("POST", "/v1/rerank", {"json": TEXTS}, 200, "application/json"),
    ("POST", "/v1/rerank", {"json": {**TEXTS, "top_n": -1}}, 400, "application/json"),
    ("POST", "/v1/rerank", {"json": {**TEXTS, "model": "no"}}, 404, "application/json"),
    ("POST", "/v1/rerank", {"content": b"a"}, 415, "application/json"),
    ("DELETE", "/v1/documents/a/b", {}, 404, "application/json"),
    ("GET", "/v1/documents", {"params": {"limit": 0}}, 400, "application/json"),
    ("GET", "/v1/documents", {"headers": {"Host": "elsewhere"}}, 403, "application/json"),
    ("GET", "/metrics", {}, 200, "text/plain"),
    ("GET", "/metrics", {"headers": {"Accept": "application/openmetrics-text"}}, 200,
     "application/openmetrics-text"),
]  # fmt: skip


async def described(http: httpx.AsyncClient) -> dict[str, Any]:
    document: dict[str, Any] = (await http.get("/openapi.json")).json()
    return document


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, found in document["paths"].items():
        for method, operation in found.items():
            yield method, path, operation


@pytest.mark.parametrize(("method", "path", "sent", "status", "kind"), ANSWERS)
async def test_what_is_answered_is_described(
    filled: httpx.AsyncClient,
    method: str,
    path: str,
    sent: dict[str, Any],
    status: int,
    kind: str,
) -> None:
    response = await filled.request(method, path, **sent)
    given = response.headers["Content-Type"].partition(";")[0]
    assert (response.status_code, given) == (status, kind), response.text
    answer = Answer(response.status_code, given, response.content)
    assert not Description(await described(filled)).faults(method, path, answer)


async def test_every_operation_names_the_errors_around_it(client: httpx.AsyncClient) -> None:
    for method, path, operation in operations(await described(client)):
        named = set(operation["responses"])
        assert {"200", "400", "403", "415", "500"} <= named, (method, path)
        assert "422" not in named, (method, path)
        assert ("429" in named) == (path not in PROBES)
        assert ("401" in named) == (path not in OPEN)
        assert ({"404", "408", "413"} <= named) == ("requestBody" in operation)


async def test_every_operation_that_takes_something_says_what(client: httpx.AsyncClient) -> None:
    document = await described(client)
    posts = {path: op for method, path, op in operations(document) if method == "post"}
    assert all("requestBody" in operation for operation in posts.values())
    kinds = posts["/v1/documents"]["requestBody"]["content"]
    assert set(kinds) == {"application/json", "multipart/form-data"}
    assert "documents" in kinds["application/json"]["schema"]["properties"]
    assert not posts["/v1/warm"]["requestBody"].get("required", False)


async def test_every_reference_leads_somewhere(client: httpx.AsyncClient) -> None:
    document = await described(client)
    names = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert {"Error", "NewDocument", "ChatBody", "Pages"} <= names
    assert names <= set(document["components"]["schemas"])
    assert '"#/$defs' not in json.dumps(document)
    assert "HTTPValidationError" not in document["components"]["schemas"]
