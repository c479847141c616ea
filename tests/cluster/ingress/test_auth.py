"""API keys and tenants."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from starlette.types import ASGIApp

from cluster.errors import ConfigError
from cluster.ingress.auth import ApiKeys
from tests.cluster.ingress.conftest import connect


@pytest.fixture
def keys(tmp_path: Path) -> ApiKeys:
    path = tmp_path / "keys.yaml"
    digest = sha256(b"secret-b").hexdigest()
    path.write_text(f"keys:\n- {{tenant: a, key: secret-a}}\n- {{tenant: b, sha256: {digest}}}\n")
    return ApiKeys.from_file(str(path))


async def test_a_request_without_a_valid_key_is_a_401(
    make_app: Callable[..., ASGIApp], keys: ApiKeys
) -> None:
    async with connect(make_app(keys)) as http:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "secret-a"}):
            response = await http.get("/v1/models", headers=headers)
            assert response.status_code == 401
            assert response.json()["error"]["code"] == "invalid_api_key"
            assert "wrong" not in response.text
        assert (await http.get("/healthz")).status_code == 200


async def test_a_tenant_sees_only_its_own_documents(
    make_app: Callable[..., ASGIApp], keys: ApiKeys
) -> None:
    a, b = ({"Authorization": f"Bearer secret-{name}"} for name in "ab")
    async with connect(make_app(keys)) as http:
        await http.post("/v1/documents", json={"text": "lava is hot"}, headers=a)
        assert (await http.get("/v1/documents", headers=a)).json()["total"] == 1
        assert (await http.get("/v1/documents", headers=b)).json()["total"] == 0
        asked = await http.post("/v1/rag/query", json={"question": "lava"}, headers=b)
        assert asked.status_code == 404


def test_without_a_file_everybody_is_the_default_tenant() -> None:
    assert ApiKeys.from_file("").tenant_of("") == "default"


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
        ApiKeys.from_file(str(tmp_path / "none.yaml"))
