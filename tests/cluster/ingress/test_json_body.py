"""One reader of JSON for every endpoint."""

import gzip
import json
from typing import Any

import httpx
import pytest

SKY = "is the sky blue"
BODIES: dict[str, dict[str, Any]] = {
    "/v1/rag/query": {"question": SKY},
    "/v1/rag/candidates": {"question": SKY},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": SKY}]},
    "/v1/completions": {"prompt": SKY},
    "/v1/rerank": {"query": SKY, "documents": ["the sky"]},
    "/v1/rerankings": {"query": SKY, "texts": ["the sky"]},
    "/v1/ranking": {"query": {"text": SKY}, "passages": [{"text": "the sky"}]},
    "/v1/documents": {"text": "the sea is blue"},
    "/v1/embeddings": {"input": SKY},
    "/v1/score": {"text_1": SKY, "text_2": "the sky"},
    "/tokenize": {"prompt": SKY},
    "/v1/warm": {"collection": "default"},
    "/v1/drain": {"node": "here"},
}


async def send(http: httpx.AsyncClient, path: str, content: bytes, **headers: str) -> Any:
    kind = {"Content-Type": "application/json", **headers}
    return await http.post(path, content=content, headers=kind)


@pytest.mark.parametrize("path", BODIES)
async def test_a_byte_order_mark_is_skipped(filled: httpx.AsyncClient, path: str) -> None:
    response = await send(filled, path, json.dumps(BODIES[path]).encode("utf-8-sig"))
    assert response.status_code == 200, response.text


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("path", BODIES)
async def test_another_encoding_of_characters_is_a_415_that_says_which(
    filled: httpx.AsyncClient, path: str, encoding: str
) -> None:
    response = await send(filled, path, json.dumps(BODIES[path]).encode(encoding))
    assert response.status_code == 415
    error = response.json()["error"]
    assert (error["param"], error["code"]) == ("body", "unsupported_media_type")
    assert encoding.upper() in error["message"] and "UTF-8" in error["message"]


@pytest.mark.parametrize("path", BODIES)
async def test_a_compressed_body_is_a_415_that_says_so(
    filled: httpx.AsyncClient, path: str
) -> None:
    content = gzip.compress(json.dumps(BODIES[path]).encode())
    response = await send(filled, path, content, **{"Content-Encoding": "gzip"})
    assert response.status_code == 415
    assert response.json()["error"]["param"] == "Content-Encoding"
    assert "'gzip'" in response.json()["message"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"a": NaN}', "NaN is no number"),
        (b'{"a": -Infinity}', "-Infinity is no number"),
        (b'{"a": "\xff"}', "not UTF-8: byte 0xff at offset 7"),
        (b'{"a": "b\n"}', "Invalid control character"),
        (b"[" * 100_000, "too many levels"),
        (b'{"a": ' + b"9" * 5000 + b"}", "4300 digits"),
        (b"{", "Expecting property name"),
    ],
)
@pytest.mark.parametrize("path", BODIES)
async def test_what_is_no_json_is_a_400_with_the_same_reason_everywhere(
    filled: httpx.AsyncClient, path: str, content: bytes, reason: str
) -> None:
    response = await send(filled, path, content)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] == "body" and error["message"].startswith("body: malformed JSON: ")
    assert reason in error["message"] and len(error["message"]) < 150


TEXTS = {
    "/v1/rag/query": (SKY, "question"),
    "/v1/rag/candidates": (SKY, "question"),
    "/v1/chat/completions": (SKY, "messages"),
    "/v1/completions": (SKY, "prompt"),
    "/v1/rerank": (SKY, "query"),
    "/v1/ranking": (SKY, "query"),
    "/v1/documents": ("the sea is blue", "text"),
    "/v1/embeddings": (SKY, "input"),
    "/v1/score": (SKY, "text_1"),
    "/tokenize": (SKY, "prompt"),
    "/v1/drain": ("here", "node"),
}


@pytest.mark.parametrize(("escape", "reason"), [("\\u0000", "NUL"), ("\\ud800", "not Unicode")])
@pytest.mark.parametrize("path", TEXTS)
async def test_nul_and_halves_of_characters_are_refused_by_field(
    filled: httpx.AsyncClient, path: str, escape: str, reason: str
) -> None:
    text, field = TEXTS[path]
    said = json.dumps(BODIES[path]).replace(text, text + escape)
    response = await send(filled, path, said.encode())
    assert response.status_code in (400, 422), response.text
    assert response.json()["error"]["param"].startswith(field)
    assert reason in response.json()["message"]
