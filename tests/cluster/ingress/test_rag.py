"""POST /v1/rag/query."""

import json
from typing import Any

import httpx
import pytest

from actors.engine.config import RerankerConfig
from tests.cluster.ingress.conftest import DOCUMENTS


def events(text: str) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


async def ask(http: httpx.AsyncClient, **body: Any) -> httpx.Response:
    return await http.post("/v1/rag/query", json=body)


async def test_the_answer_comes_with_sources_times_and_cache(filled: httpx.AsyncClient) -> None:
    data = (await ask(filled, question="is the sky blue", top_k=1)).json()
    assert data["answer"] == "the sky is blue "
    assert data["finish_reason"] == "stop"
    [source] = data["sources"]
    assert (source["document_id"], source["start"], source["end"]) == ("sky", 0, 15)
    assert source["text"] == DOCUMENTS[0]["text"]
    weight = RerankerConfig().dense_weight
    assert source["score"] == pytest.approx(source["log_likelihood"] + weight * source["cosine"])
    assert set(data["timings_ms"]) == {"search", "rerank", "generate", "ttft", "total"}
    assert data["cache"]["rerank"]["computed"] == 3
    assert data["cache"]["total"]["tokens_reused"] == 7
    assert data["usage"] == {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}


async def test_a_second_question_reuses(filled: httpx.AsyncClient) -> None:
    await ask(filled, question="is the sky blue")
    data = (await ask(filled, question="is snow white")).json()
    assert data["cache"]["rerank"] == data["cache"]["rerank"] | {"dram_hits": 3, "computed": 0}
    assert data["sources"][0]["document_id"] == "snow"


async def test_candidates_are_all_that_was_reranked_with_both_scores(
    filled: httpx.AsyncClient,
) -> None:
    response = await filled.post("/v1/rag/candidates", json={"question": "is the sky blue"})
    data = response.json()
    assert data["sources"][0]["document_id"] == "sky"
    assert len(data["sources"]) == 3
    weight = RerankerConfig().dense_weight
    for source in data["sources"]:
        fused = source["log_likelihood"] + weight * source["cosine"]
        assert source["score"] == pytest.approx(fused)
    assert set(data["timings_ms"]) == {"search", "rerank", "total"}
    assert data["cache"]["rerank"]["computed"] == 3
    assert "answer" not in data


async def test_candidates_are_bounded_by_top_n(filled: httpx.AsyncClient) -> None:
    body = {"question": "is the sky blue", "top_n": 2}
    data = (await filled.post("/v1/rag/candidates", json=body)).json()
    assert len(data["sources"]) == 2
    response = await filled.post("/v1/rag/candidates", json=body | {"top_n": 201})
    assert response.status_code == 400
    assert response.json()["message"] == "top_n: is 201, must be 1 to 200"


async def test_a_stream_is_deltas_and_then_the_whole_answer(filled: httpx.AsyncClient) -> None:
    response = await ask(filled, question="is the sky blue", top_k=1, stream=True)
    assert response.headers["content-type"].startswith("text/event-stream")
    *deltas, last = events(response.text)
    assert "".join(d["delta"] for d in deltas) == last["answer"] == "the sky is blue "
    assert last["sources"][0]["document_id"] == "sky"


async def test_max_tokens_ends_an_answer(filled: httpx.AsyncClient) -> None:
    data = (await ask(filled, question="is the sky blue", max_tokens=2)).json()
    assert (data["answer"], data["finish_reason"]) == ("the sky ", "length")


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("question", " ", "must not be empty"),
        ("question", "word " * 100_000, "at most 200000 are allowed"),
        ("question", 7, "valid string"),
        ("question", "\ud800", "lone surrogate"),
        ("top_k", 0, "must be 1 to 200"),
        ("top_k", 10**9, "must be 1 to 200"),
        ("top_n", 201, "must be 1 to 200"),
        ("max_tokens", 0, "greater than or equal to 1"),
        ("temperature", -1, "greater than or equal to 0"),
        ("top_p", 0, "greater than 0"),
        ("collection", "../etc", "letters, digits"),
        ("stop", ["a"] * 5, "at most 4"),
        ("seed", -(2**63) - 1, "greater than or equal to -9223372036854775808"),
    ],
)
async def test_a_bad_value_names_the_field_and_what_is_allowed(
    filled: httpx.AsyncClient, field: str, value: Any, allowed: str
) -> None:
    body = json.dumps({"question": "is the sky blue", field: value})
    headers = {"Content-Type": "application/json"}
    response = await filled.post("/v1/rag/query", content=body, headers=headers)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] == field
    assert allowed in error["message"]


async def test_top_k_beyond_top_n_is_refused(filled: httpx.AsyncClient) -> None:
    response = await ask(filled, question="sky", top_n=2, top_k=3)
    assert response.status_code == 400
    assert response.json()["message"] == "top_k: is 3, must be 1 to top_n, which is 2"


async def test_an_unknown_field_is_refused_with_the_known_ones(filled: httpx.AsyncClient) -> None:
    response = await ask(filled, question="sky", topk=3)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "topk"
    assert "top_k" in response.json()["message"]


async def test_null_means_absent(filled: httpx.AsyncClient) -> None:
    response = await ask(filled, question="is the sky blue", top_k=None, collection=None)
    assert response.status_code == 200


async def test_an_empty_collection_is_a_404_that_says_how_to_fill_it(
    client: httpx.AsyncClient,
) -> None:
    response = await ask(client, question="sky", collection="empty")
    assert response.status_code == 404
    assert response.json()["error"]["param"] == "collection"
    assert "'empty' has no documents" in response.json()["message"]
    assert "POST /v1/documents" in response.json()["message"]
