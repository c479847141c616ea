"""POST /tokenize."""

from typing import Any

import httpx
import pytest


@pytest.mark.parametrize("path", ["/tokenize", "/v1/tokenize"])
async def test_a_text_has_ids(client: httpx.AsyncClient, path: str) -> None:
    data = (await client.post(path, json={"prompt": "the sky", "model": "hyperrag"})).json()
    assert data == {"count": 3, "max_model_len": 4096, "tokens": [0, 3, 3], "token_strs": None}
    body = {"prompt": "the sky", "add_special_tokens": False, "return_token_strs": True}
    data = (await client.post(path, json=body)).json()
    assert (data["tokens"], data["token_strs"]) == ([3, 3], ["the", "sky"])


async def test_a_conversation_has_ids(client: httpx.AsyncClient) -> None:
    messages = [{"role": "system", "content": "be"}, {"role": "user", "content": "brief"}]
    data = (await client.post("/tokenize", json={"messages": messages})).json()
    assert data["tokens"] == [0, 2, 5]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "prompt"),
        ({"prompt": "a", "messages": [{"role": "user", "content": "b"}]}, "prompt"),
        ({"prompt": "a" * 200_001}, "prompt"),
        ({"prompt": "a", "model": "none"}, "model"),
        ({"prompt": "a", "add_generation_prompt": False}, "add_generation_prompt"),
    ],
)
async def test_what_is_wrong_is_named(
    client: httpx.AsyncClient, body: dict[str, Any], param: str
) -> None:
    response = await client.post("/tokenize", json=body)
    assert response.status_code in (400, 404)
    assert response.json()["error"]["param"] == param
