"""Who may call: names of the service, origins of pages, kinds of bodies."""

import json
from typing import Any

import httpx
import pytest

from cluster.config import HyperRagConfig
from cluster.errors import ConfigError
from cluster.ingress.config import IngressConfig
from cluster.ingress.keys import ApiKeys, Caller
from tests.cluster.ingress.conftest import DOCUMENTS, MakeApp, connect
from tests.cluster.ingress.test_rag import events

PAGE, FOREIGN = "https://chat.example.com", "https://evil.example"
KEYS = ApiKeys({bytes(32): Caller("a")})
ASKED = {"Access-Control-Request-Method": "POST"}


def code(response: httpx.Response) -> str:
    return str(response.json()["error"]["code"])


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:8000", "localhost:1", "LocalHost.", "[::1]", "[::1]:8000"]
)
async def test_loopback_has_names(client: httpx.AsyncClient, host: str) -> None:
    assert (await client.get("/v1/documents", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost@evil", ""]
)
async def test_another_name_that_leads_to_loopback_reads_nothing(
    filled: httpx.AsyncClient, host: str
) -> None:
    for path in ("/v1/documents", "/docs", "/openapi.json", "/metrics", "/v1/status"):
        response = await filled.get(path, headers={"Host": host})
        assert response.status_code == 403
        assert code(response) == "host_not_allowed"
        assert "ingress.allowed_hosts" in response.text and "sky" not in response.text


async def test_allowed_hosts_are_names_too(make_app: MakeApp) -> None:
    async with connect(make_app(allowed_hosts=("rag.example",))) as http:
        for host, status in (("rag.example:80", 200), ("localhost", 200), ("evil.example", 403)):
            assert (await http.get("/v1/models", headers={"Host": host})).status_code == status
    async with connect(make_app(allowed_hosts=("*",))) as http:
        response = await http.get("/v1/models", headers={"Host": "evil.example"})
        assert response.status_code == 200


def test_with_keys_and_beyond_loopback_any_name_will_do() -> None:
    assert IngressConfig().hosts == ("127.0.0.1", "localhost", "::1")
    assert IngressConfig(api_keys_file="keys.yaml").hosts == ()
    assert IngressConfig(host="0.0.0.0", insecure=True).hosts == ()
    named = IngressConfig(api_keys_file="keys.yaml", allowed_hosts=("rag.example",))
    assert "rag.example" in named.hosts and "127.0.0.1" in named.hosts


@pytest.mark.parametrize(
    "origin", [FOREIGN, "null", "http://127.0.0.1:81", "http://localhost", "http://[::1", "http://"]
)
async def test_a_page_of_another_origin_changes_nothing(
    filled: httpx.AsyncClient, origin: str
) -> None:
    headers = {"Origin": origin}
    new = {"id": "new", "text": "from elsewhere"}
    for response in (
        await filled.post("/v1/documents", json=new, headers=headers),
        await filled.post("/v1/documents", files={"f": ("a.txt", b"elsewhere")}, headers=headers),
        await filled.delete("/v1/documents/sky", headers=headers),
        await filled.post("/v1/check", headers=headers),
    ):
        assert response.status_code == 403
        assert code(response) == "origin_not_allowed"
    read = await filled.get("/v1/documents", headers=headers)
    assert [d["id"] for d in read.json()["documents"]] == sorted(d["id"] for d in DOCUMENTS)
    assert "Access-Control-Allow-Origin" not in read.headers, "the browser shows it to no page"


async def test_our_own_pages_may_call(client: httpx.AsyncClient) -> None:
    headers = {"Origin": "http://127.0.0.1:8000", "Host": "127.0.0.1:8000"}
    response = await client.post("/v1/documents", json={"text": "the sky"}, headers=headers)
    assert response.status_code == 200


async def test_a_page_of_a_listed_origin_may_call_with_a_key_alone(make_app: MakeApp) -> None:
    app = make_app(KEYS, cors_origins=(PAGE,), api_keys_file="keys.yaml")
    async with connect(app) as http:
        headers = {"Origin": PAGE}
        asked = {**headers, **ASKED, "Access-Control-Request-Headers": "authorization,x-stainless"}
        preflight = await http.options("/v1/chat/completions", headers=asked)
        assert preflight.status_code == 200
        assert preflight.headers["Access-Control-Allow-Origin"] == PAGE
        assert "x-stainless" in preflight.headers["Access-Control-Allow-Headers"]
        refused = await http.post("/v1/documents", json={}, headers=headers)
        assert refused.status_code == 401
        assert refused.headers["Access-Control-Allow-Origin"] == PAGE, "errors can be read"
        assert "X-Request-Id" in refused.headers["Access-Control-Expose-Headers"]


async def test_preflights_of_others_are_refused_in_json(make_app: MakeApp) -> None:
    async with connect(make_app(cors_origins=(PAGE,))) as http:
        headers = {"Origin": FOREIGN, **ASKED}
        response = await http.options("/v1/documents", headers=headers)
        assert (response.status_code, code(response)) == (403, "origin_not_allowed")
        assert "Access-Control-Allow-Origin" not in response.headers
    async with connect(make_app()) as http:
        response = await http.options("/v1/documents", headers=headers)
        assert response.status_code == 405 and response.json()["error"]


async def test_streams_have_the_headers_and_foreign_pages_stay_out(make_app: MakeApp) -> None:
    body = {"question": "is the sky blue", "stream": True}
    async with connect(make_app(cors_origins=(PAGE,))) as http:
        await http.post("/v1/documents", json={"documents": DOCUMENTS})
        response = await http.post("/v1/rag/query", json=body, headers={"Origin": PAGE})
        assert response.headers["Access-Control-Allow-Origin"] == PAGE
        assert events(response.text)
        response = await http.post("/v1/rag/query", json=body, headers={"Origin": FOREIGN})
        assert response.status_code == 403
        response = await http.get("/v1/nothing", headers={"Origin": PAGE})
        assert (response.status_code, response.headers["Access-Control-Allow-Origin"]) == (
            404,
            PAGE,
        )


async def test_with_keys_every_origin_can_be_allowed(make_app: MakeApp) -> None:
    app = make_app(KEYS, cors_origins=("*",), api_keys_file="keys.yaml")
    async with connect(app) as http:
        response = await http.get("/v1/models", headers={"Origin": FOREIGN})
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        response = await http.post("/v1/documents", json={}, headers={"Origin": FOREIGN})
        assert response.status_code == 401, "not the origin is missing"


BODY = json.dumps({"question": "is the sky blue", "text": "x", "query": "x", "documents": ["x"]})


@pytest.mark.parametrize(
    "path", ["/v1/rag/query", "/v1/rerank", "/v1/chat/completions", "/v1/warm", "/v1/check"]
)
@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None]
)
async def test_only_json_is_taken_for_json(
    client: httpx.AsyncClient, path: str, kind: str | None
) -> None:
    headers = {"Content-Type": kind} if kind else {}
    response = await client.post(path, content=BODY, headers=headers)
    assert response.status_code == 415
    assert code(response) == "unsupported_media_type"
    assert "application/json" in response.json()["message"]


async def test_text_is_not_stored_as_a_document(client: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "text/plain"}
    response = await client.post("/v1/documents", content='{"text": "x"}', headers=headers)
    assert response.status_code == 415
    assert "multipart/form-data" in response.json()["message"]
    assert (await client.get("/v1/documents")).json()["total"] == 0


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "application/vnd.a+json"])
async def test_json_has_several_names(client: httpx.AsyncClient, kind: str) -> None:
    body, headers = '{"text": "the sky"}', {"Content-Type": kind}
    assert (await client.post("/v1/documents", content=body, headers=headers)).status_code == 200


async def test_no_body_needs_no_type(client: httpx.AsyncClient) -> None:
    assert (await client.post("/v1/check")).status_code == 200


@pytest.mark.parametrize(
    "wrong",
    [
        {"cors_origins": ["chat.example.com"]},
        {"cors_origins": ["https://chat.example.com/"]},
        {"cors_origins": ["null"]},
        {"cors_origins": ["*"]},
        {"allowed_hosts": ["rag.example/path"]},
        {"allowed_hosts": ["http://rag.example"]},
    ],
)
def test_what_is_no_origin_or_host_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"ingress.{next(iter(wrong))}"):
        HyperRagConfig.parse({"ingress": wrong})


def test_origins_are_read_from_the_configuration() -> None:
    given = {"cors_origins": [PAGE, "app://obsidian.md"], "allowed_hosts": ["rag.example"]}
    ingress = HyperRagConfig.parse({"ingress": given}).ingress
    assert ingress.cors_origins == (PAGE, "app://obsidian.md")
    assert HyperRagConfig.parse({"ingress": {"cors_origins": ["*"], "api_keys_file": "k"}})
