"""POST /v1/score."""

from typing import Any

import httpx
import pytest

TEXTS = ["snow is white", "the sky is blue"]


async def score(http: httpx.AsyncClient, **body: Any) -> httpx.Response:
    return await http.post("/v1/score", json=body)


async def test_one_text_is_scored_with_each_in_their_order(client: httpx.AsyncClient) -> None:
    data = (await score(client, text_1="is the sky blue", text_2=TEXTS)).json()
    assert data["object"] == "list" and data["model"] == "hyperrag-reranker"
    assert [one["index"] for one in data["data"]] == [0, 1]
    assert [one["score"] for one in data["data"]] == pytest.approx([0.275, 0.95])
    assert data["usage"]["total_tokens"] == 7


async def test_pairs_of_many_questions_keep_their_places(client: httpx.AsyncClient) -> None:
    firsts = ["sky", "snow"] * 6 + [f"question {i} snow" for i in range(10)]
    data = (await score(client, text_1=firsts, text_2=["snow is white"] * 22)).json()
    expected = [0.05, 0.95] * 6 + [0.35] * 10
    assert [one["score"] for one in data["data"]] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"text_1": ["a", "b"], "text_2": ["c"]}, "text_2"),
        ({"text_1": "a", "text_2": []}, "text_2"),
        ({"text_1": "a", "text_2": ["x"] * 1001}, "text_2"),
        ({"text_1": "a", "text_2": ["x\0"]}, "text_2[0]"),
        ({"text_1": "a"}, "text_2"),
        ({"text_1": "a", "text_2": "b", "softmax": True}, "softmax"),
        ({"text_1": "a", "text_2": "b", "model": "none"}, "model"),
    ],
)
async def test_what_is_wrong_is_named(
    client: httpx.AsyncClient, body: dict[str, Any], param: str
) -> None:
    response = await score(client, **body)
    assert response.status_code in (400, 404)
    assert response.json()["error"]["param"] == param
