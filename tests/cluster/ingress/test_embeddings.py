"""POST /v1/embeddings."""

import base64
from typing import Any, cast

import httpx
import numpy as np
import openai
import pytest

from tests.cluster.ingress.conftest import BASE

TEXTS = ["the sky", "snow is white in winter and it is cold"]


async def embed(http: httpx.AsyncClient, **body: Any) -> httpx.Response:
    return await http.post("/v1/embeddings", json=body)


def vector(chars: int, words: int) -> Any:
    return pytest.approx(np.array([chars, words]) / np.hypot(chars, words), rel=1e-6)


@pytest.mark.parametrize(
    ("given", "sizes"),
    [
        ("the sky", [(7, 2)]),
        (TEXTS, [(7, 2), (38, 9)]),
        ([12, 345], [(6, 2)]),
        ([[1], [22, 333, 4]], [(1, 1), (8, 3)]),
    ],
)
async def test_texts_and_token_ids_alone_and_in_lists(
    client: httpx.AsyncClient, given: Any, sizes: list[tuple[int, int]]
) -> None:
    data = (await embed(client, input=given, model="hyperrag-embedder", user="u")).json()
    assert [one["index"] for one in data["data"]] == list(range(len(sizes)))
    for one, size in zip(data["data"], sizes, strict=True):
        assert one["embedding"] == vector(*size)
    assert data["model"] == "hyperrag-embedder"


async def test_what_is_cut_is_said_and_not_counted(client: httpx.AsyncClient) -> None:
    data = (await embed(client, input=TEXTS)).json()
    cut = {"index": 1, "tokens": 9, "kept_tokens": 8}
    assert data["hyperrag"]["truncated"] == {"documents": [cut]}
    assert data["usage"] == {"prompt_tokens": 10, "total_tokens": 10}


async def test_base64_is_little_endian_floats(client: httpx.AsyncClient) -> None:
    plain = (await embed(client, input=TEXTS)).json()["data"]
    packed = (await embed(client, input=TEXTS, encoding_format="base64")).json()["data"]
    for one, other in zip(plain, packed, strict=True):
        decoded = np.frombuffer(base64.b64decode(other["embedding"]), "<f4")
        assert one["embedding"] == pytest.approx(decoded.tolist())


async def test_the_official_client_gets_vectors(client: httpx.AsyncClient) -> None:
    http = cast(Any, client)
    async with openai.AsyncOpenAI(api_key="none", base_url=f"{BASE}/v1", http_client=http) as sdk:
        answer = await sdk.embeddings.create(model="hyperrag-embedder", input=TEXTS)
    assert answer.data[0].embedding == vector(7, 2)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": [[1], []]}, "input[1]"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": "é" * 2_000_001}, "input"),
        ({"input": "a", "dimensions": 7}, "dimensions"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
        ({"input": "a", "output_dtype": "int8"}, "output_dtype"),
        ({"input": "a", "model": "hyperrag"}, "model"),
        ({"input": "a", "made_up": 1}, "made_up"),
    ],
)
async def test_what_is_wrong_is_named(
    client: httpx.AsyncClient, body: dict[str, Any], param: str
) -> None:
    response = await embed(client, **body)
    assert response.status_code in (400, 404)
    assert response.json()["error"]["param"] == param


async def test_the_dimensions_of_the_model_may_be_asked_for(client: httpx.AsyncClient) -> None:
    assert (await embed(client, input="a", dimensions=2)).status_code == 200
