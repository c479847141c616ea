"""API keys: tenants, roles, and a file that changes."""

from collections.abc import AsyncGenerator, Callable
from hashlib import sha256
from pathlib import Path

import pytest
from starlette.types import ASGIApp

from cluster.errors import ConfigError
from cluster.ingress.keys import ApiKeys, Caller, KeyFile
from tests.cluster.ingress.conftest import connect

MakeApp = Callable[..., ASGIApp]

A, B, ROOT = ({"Authorization": f"Bearer secret-{name}"} for name in ("a", "b", "root"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.yaml"
    digest = sha256(b"secret-b").hexdigest()
    path.write_text(
        f"keys:\n- {{tenant: a, key: secret-a}}\n- {{tenant: b, sha256: {digest}}}\n"
        "- {tenant: a, key: secret-root, role: admin}\n"
    )
    return path


@pytest.fixture
def keys(file: Path) -> KeyFile:
    return KeyFile(str(file))


async def test_a_request_without_a_valid_key_is_a_401(make_app: MakeApp, keys: KeyFile) -> None:
    async with connect(make_app(keys)) as http:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "secret-a"}):
            response = await http.get("/v1/models", headers=headers)
            assert response.status_code == 401
            assert response.json()["error"]["code"] == "invalid_api_key"
            assert "wrong" not in response.text
        for probe in ("/health", "/healthz", "/readyz", "/readyz/"):
            assert (await http.get(probe)).status_code == 200


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json", "/v1/nothing", "/metrics"])
async def test_everything_but_the_probes_needs_a_key(
    make_app: MakeApp, keys: KeyFile, path: str
) -> None:
    async with connect(make_app(keys)) as http:
        assert (await http.get(path)).status_code == 401
        assert (await http.get(path, headers=A)).status_code in (200, 404)
    async with connect(make_app()) as http:
        assert (await http.get(path)).status_code in (200, 404), "without keys"


@pytest.mark.parametrize("path", ["/v1/documents", "/v1/rag/query", "/v1/rerank"])
async def test_nothing_of_a_body_is_read_without_a_key(
    make_app: MakeApp, keys: KeyFile, path: str
) -> None:
    num_read = 0

    async def body() -> AsyncGenerator[bytes]:
        nonlocal num_read
        for _ in range(40):
            num_read += 1
            yield b"x" * 2**20

    headers = {"Content-Type": "application/json", "Authorization": "Bearer wrong"}
    async with connect(make_app(keys)) as http:
        response = await http.post(path, content=body(), headers=headers)
    assert (response.status_code, num_read) == (401, 0)


async def test_a_tenant_sees_only_its_own_documents(make_app: MakeApp, keys: KeyFile) -> None:
    async with connect(make_app(keys)) as http:
        await http.post("/v1/documents", json={"text": "lava is hot"}, headers=A)
        assert (await http.get("/v1/documents", headers=A)).json()["total"] == 1
        assert (await http.get("/v1/documents", headers=B)).json()["total"] == 0
        asked = await http.post("/v1/rag/query", json={"question": "lava"}, headers=B)
        assert asked.status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/drain", {"node": "there"}),
        ("POST", "/v1/check", {"repair": True}),
        ("POST", "/v1/check", {}),
        ("GET", "/v1/status", None),
    ],
)
async def test_what_concerns_all_tenants_is_for_admins(
    make_app: MakeApp, keys: KeyFile, method: str, path: str, body: object
) -> None:
    async with connect(make_app(keys)) as http:
        refused = await http.request(method, path, json=body, headers=A)
        assert refused.status_code == 403
        assert refused.json()["error"]["code"] == "admin_needed"
        assert "role: admin" in refused.json()["message"]
        assert (await http.request(method, path, json=body, headers=ROOT)).status_code == 200
        own = await http.get("/v1/documents", headers=ROOT)
        assert own.status_code == 200, "an admin is a tenant too"
    async with connect(make_app()) as http:
        assert (await http.request(method, path, json=body)).status_code == 200, "without keys"


async def test_keys_are_read_again_when_their_file_changes(
    make_app: MakeApp, keys: KeyFile, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with connect(make_app(keys)) as http:

        async def statuses() -> list[int]:
            asked = [await http.get("/v1/status", headers=headers) for headers in (A, B, ROOT)]
            return [response.status_code for response in asked]

        assert await statuses() == [403, 403, 200]
        file.write_text("keys: [{tenant: a, key: secret-a, role: admin}]")
        assert await statuses() == [200, 401, 401]
        file.write_text("keys: [{tenant: a,")
        assert await statuses() == [200, 401, 401], "half a file changes nothing"
        assert caplog.text.count("the API keys stay as they were") == 1
        file.unlink()
        assert await statuses() == [200, 401, 401]
        other = file.with_suffix(".new")
        other.write_text("keys: [{tenant: b, key: secret-b}]")
        file.symlink_to(other)
        assert await statuses() == [401, 403, 401], "as Kubernetes changes a secret"
        assert "secret" not in caplog.text


def test_without_a_file_everybody_is_the_default_tenant_and_an_admin() -> None:
    assert ApiKeys.from_file("").caller_of("") == Caller("default", "admin")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "keys: []",
        "keys: [{tenant: a}]",
        "keys: [{tenant: a, key: x, sha256: y}]",
        "keys: [{tenant: ../a, key: x}]",
        "keys: [{tenant: a, sha256: abc}]",
        "keys: [{tenant: a, key: ''}]",
        "keys: [{tenant: a, key: abc, role: root}]",
        "keys: [{tenant: a, key: abc, rôle: admin}]",
        "keys: [",
    ],
)
def test_a_bad_file_is_named_and_no_key_is_shown(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="keys.yaml") as caught:
        ApiKeys.from_file(str(path))
    assert "abc" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="none.yaml"):
        KeyFile(str(tmp_path / "none.yaml"))
