"""What clients send in place of the method or the path that an endpoint has."""

from hashlib import sha256
from importlib.metadata import version

import httpx
import pytest

from cluster.ingress.keys import ApiKeys, Caller
from tests.cluster.ingress.conftest import MakeApp, connect

GETS = ["/health", "/healthz", "/readyz", "/version", "/v1/models", "/v1/models/hyperrag"]
GETS += ["/v1/documents", "/v1/status", "/metrics", "/docs", "/openapi.json"]


@pytest.mark.parametrize("path", GETS)
async def test_head_is_there_wherever_get_is(client: httpx.AsyncClient, path: str) -> None:
    head, whole = await client.head(path), await client.get(path)
    assert (head.status_code, whole.status_code) == (200, 200)
    assert head.content == b"" and whole.content
    assert head.headers["content-type"] == whole.headers["content-type"]
    refused = await client.head("/v1/rerank")
    assert (refused.status_code, refused.headers["Allow"], refused.content) == (405, "POST", b"")
    assert (await client.head("/v1/nothing")).status_code == 404


@pytest.mark.parametrize("path", GETS)
async def test_a_slash_behind_a_path_changes_nothing(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(f"{path}/")).status_code == 200


async def test_a_post_with_a_slash_is_no_redirect(filled: httpx.AsyncClient) -> None:
    body = {"query": "sky", "documents": ["the sky"]}
    assert (await filled.post("/v1/rerank/", json=body)).status_code == 200
    files = {"file": ("a.txt", b"the sea")}
    assert (await filled.post("/v1/documents/", files=files)).status_code == 200


async def test_the_id_of_a_document_may_end_in_a_slash(client: httpx.AsyncClient) -> None:
    await client.post("/v1/documents", json={"id": "a/", "text": "the sea"})
    assert (await client.delete("/v1/documents/a%2F")).json()["id"] == "a/"


async def test_health_needs_no_key_however_it_is_asked(make_app: MakeApp) -> None:
    keys = ApiKeys({sha256(b"k").digest(): Caller("a")})
    async with connect(make_app(keys)) as http:
        for path in ("/health", "/health/"):
            assert (await http.get(path)).json()["status"] == "ready"
            assert (await http.head(path)).status_code == 200
        for path in ("/version", "/version/", "/v1/models"):
            assert (await http.get(path)).status_code == 401
            assert (await http.head(path)).status_code == 401


async def test_the_version_is_that_of_the_package(client: httpx.AsyncClient) -> None:
    assert (await client.get("/version")).json() == {"version": version("hyperrag")}
