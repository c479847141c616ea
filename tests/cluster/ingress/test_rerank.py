"""Reranking in the shapes of four kinds of clients."""

import json
import math
from typing import Any, get_args

import httpx
import pytest

from actors.messages import Scale
from cluster.ingress.rerank import relevance
from cluster.ingress.rerank_body import ranked_text

PATHS = ["/rerank", "/v1/rerank", "/v2/rerank", "/v1/v1/rerank", "/v1/v2/rerank"]
TEXTS = ["snow is white", "the sky is blue"]


async def rerank(http: httpx.AsyncClient, path: str = "/v1/rerank", **body: Any) -> httpx.Response:
    return await http.post(path, json={"query": "is the sky blue", **body})


@pytest.mark.parametrize("path", PATHS)
async def test_results_are_sorted_and_index_the_callers_list(
    client: httpx.AsyncClient, path: str
) -> None:
    data = (await rerank(client, path, documents=TEXTS)).json()
    assert [r["index"] for r in data["results"]] == [1, 0]
    assert [r["document"]["text"] for r in data["results"]] == TEXTS[::-1]
    assert data["results"][0]["relevance_score"] == pytest.approx(0.95)
    assert all(0 <= r["relevance_score"] <= 1 for r in data["results"])
    assert data["usage"] == {"prompt_tokens": 7, "total_tokens": 7}
    assert data["meta"]["api_version"]["version"] == ("2" if "v2" in path else "1")


async def test_what_langchain_sends_to_cohere(client: httpx.AsyncClient) -> None:
    body: dict[str, Any] = {
        "documents": TEXTS,
        "top_n": 1,
        "max_tokens_per_doc": None,
        "model": "hyperrag",
    }
    data = (await rerank(client, "/v2/rerank", **body)).json()
    assert [r["index"] for r in data["results"]] == [1]


async def test_documents_are_cut_where_the_request_says_and_the_answer_says_so(
    client: httpx.AsyncClient,
) -> None:
    data = (await rerank(client, "/v2/rerank", documents=TEXTS, max_tokens_per_doc=3)).json()
    cut = {"index": 1, "tokens": 4, "kept_tokens": 3}
    assert data["hyperrag"]["truncated"] == {"documents": [cut]}
    assert data["usage"]["total_tokens"] == 6
    assert data["results"][0]["relevance_score"] == pytest.approx(0.05 + 0.9 * 3 / 4)
    whole = (await rerank(client, documents=TEXTS, max_tokens_per_doc=4)).json()
    assert whole["hyperrag"]["truncated"] == {}


async def test_what_xinference_sends(client: httpx.AsyncClient) -> None:
    body: dict[str, Any] = {
        "documents": TEXTS,
        "return_documents": "true",
        "return_len": "true",
        "top_n": None,
    }
    data = (await rerank(client, **body)).json()
    assert len(data["results"]) == 2
    assert "document" in data["results"][0]
    data = (await rerank(client, **body | {"return_documents": "false"})).json()
    assert "document" not in data["results"][0]


async def test_documents_may_be_objects(client: httpx.AsyncClient) -> None:
    documents = [TEXTS[0], {"text": TEXTS[1], "title": "ignored"}]
    data = (await rerank(client, documents=documents, top_n=0)).json()
    assert [r["index"] for r in data["results"]] == [1, 0]


ROWS = [
    {"title": "snow", "body": "it is white"},
    {"title": "the sky is", "body": "blue", "year": 2024, "image": {"url": "x"}},
]


@pytest.mark.parametrize(
    ("document", "fields", "text"),
    [
        ({"text": "a", "title": "b"}, [], "a"),
        ({"title": "b"}, [], "b"),
        ({"title": "b", "text": None, "n": 3, "x": ["c"]}, [], "title: b\nn: 3"),
        ({"text": "a", "title": "b"}, ["title"], "b"),
        ({"text": "a", "title": "b"}, ["title", "text", "z"], "title: b\ntext: a"),
        ("plain", ["title"], "plain"),
    ],
)
def test_the_fields_of_a_document_that_are_ranked(document: Any, fields: Any, text: str) -> None:
    assert ranked_text(document, fields, "documents[0]") == text


async def test_rank_fields_say_what_of_an_object_is_ranked(client: httpx.AsyncClient) -> None:
    best: list[Any] = []
    for fields in (None, ["title"], ["body"]):
        data = (await rerank(client, documents=ROWS, rank_fields=fields)).json()
        best.append((data["results"][0]["index"], data["results"][0]["relevance_score"]))
        assert data["results"][0]["document"] == ROWS[best[-1][0]], "as it was sent"
    # By the share of the four words of the question that the ranked text has: 4, 3 and 1.
    assert best == [(1, pytest.approx(0.95)), (1, pytest.approx(0.725)), (0, pytest.approx(0.275))]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"documents": [{}]}, "documents[0]"),
        ({"documents": ["a", {"image": {"url": "x"}}]}, "documents[1]"),
        ({"documents": [{"text": "a"}], "rank_fields": ["title"]}, "documents[0]"),
        ({"documents": ["a", "b\0"]}, "documents[1]"),
        ({"documents": [{"text": "a", "note": "\ud800"}]}, "documents[0]"),
        ({"documents": ["a"], "query": "q\0"}, "query"),
        ({"documents": ["a"], "top_n": 1, "top_k": 2}, "top_k"),
        ({"documents": ["a"], "passages": ["b"]}, "passages"),
        ({"passages": ["a", {}]}, "passages[1]"),
        ({"documents": ["a"], "query": {"text": " "}}, "query"),
        ({"documents": ["a"], "query": {"text": "a", "image": "b"}}, "query"),
    ],
)
async def test_what_cannot_be_ranked_is_named(
    client: httpx.AsyncClient, body: dict[str, Any], param: str
) -> None:
    kind = {"Content-Type": "application/json"}
    content = json.dumps({"query": "sky", **body})
    response = await client.post("/v1/rerank", content=content, headers=kind)
    assert response.status_code in (400, 422)
    assert response.json()["error"]["param"] == param


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("topn", 1),
        ("top_N", 1),
        ("return_document", True),
        ("instruction", "be strict"),
        ("truncate_prompt_tokens", 9),
        ("rewrite_query", True),
        ("is_iql", True),
    ],
)
async def test_a_field_that_would_change_the_result_is_refused(
    client: httpx.AsyncClient, field: str, value: Any
) -> None:
    response = await rerank(client, documents=TEXTS, **{field: value})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == field
    assert "allowed" in response.json()["message"]
    absent: dict[str, Any] = {field: None}
    assert (await rerank(client, documents=TEXTS, **absent)).status_code == 200


VOYAGE: dict[str, Any] = {"top_k": 1, "truncation": True, "return_documents": True}
PINECONE: dict[str, Any] = {"top_n": 1, "return_documents": True, "parameters": {"truncate": "END"}}


async def test_what_voyage_sends(client: httpx.AsyncClient) -> None:
    data = (await rerank(client, documents=TEXTS, **VOYAGE)).json()
    [best] = data["data"]
    assert best["index"] == 1 and best["relevance_score"] == pytest.approx(0.95)
    assert best["document"] == TEXTS[1]
    assert data["usage"]["total_tokens"] == 7
    data = (await rerank(client, documents=TEXTS, top_k=None, truncation=True)).json()
    assert [set(datum) for datum in data["data"]] == [{"index", "relevance_score", "score"}] * 2


async def test_what_pinecone_sends(client: httpx.AsyncClient) -> None:
    documents = [{"text": text, "id": f"d{i}"} for i, text in enumerate(TEXTS)]
    data = (await rerank(client, documents=documents, rank_fields=["text"], **PINECONE)).json()
    [best] = data["data"]
    assert (best["index"], best["document"]) == (1, documents[1])
    assert best["score"] == pytest.approx(0.95)


async def test_what_infinity_sends_gets_documents_as_texts(client: httpx.AsyncClient) -> None:
    body: dict[str, Any] = {
        "documents": TEXTS,
        "return_documents": True,
        "raw_scores": False,
    }
    data = (await rerank(client, "/rerank", **body)).json()
    assert [r["document"] for r in data["results"]] == TEXTS[::-1]


async def test_what_nvidia_sends(client: httpx.AsyncClient) -> None:
    passages = [{"text": text} for text in TEXTS]
    body = {"query": {"text": "is the sky blue"}, "passages": passages, "truncate": "END"}
    data = (await client.post("/v1/ranking", json=body)).json()
    assert [r["index"] for r in data["rankings"]] == [1, 0]
    assert data["rankings"][0]["logit"] == pytest.approx(math.log(0.95))


async def test_what_isaacus_sends(client: httpx.AsyncClient) -> None:
    options: dict[str, Any] = {
        "is_iql": False,
        "scoring_method": "auto",
        "chunking_options": {"size": 512},
    }
    data = (await rerank(client, "/v1/rerankings", texts=TEXTS, top_n=1, **options)).json()
    assert data["results"] == [{"index": 1, "score": pytest.approx(0.95)}]
    assert data["usage"] == {"input_tokens": 7}


async def test_raw_scores_are_the_logarithm(client: httpx.AsyncClient) -> None:
    data = (await rerank(client, documents=TEXTS, raw_scores=True)).json()
    assert data["results"][0]["relevance_score"] == pytest.approx(math.log(0.95))


def test_every_scale_lies_between_0_and_1() -> None:
    assert relevance(math.log(0.95), "log_probability") == pytest.approx(0.95)
    assert relevance(math.log(3), "logit") == pytest.approx(0.75)
    for scale in get_args(Scale):
        far = [relevance(score, scale) for score in (-1e4, -3.0, 0.0, 1e4)]
        assert far == sorted(far) and 0 <= far[0] < far[1] and far[-1] <= 1


async def test_texts_get_the_bare_list(client: httpx.AsyncClient) -> None:
    data = (await rerank(client, "/rerank", texts=TEXTS)).json()
    assert [set(r) for r in data] == [{"index", "score"}] * 2
    data = (await rerank(client, "/rerank", texts=TEXTS, return_text=True)).json()
    assert data[0] == {"index": 1, "score": pytest.approx(0.95), "text": TEXTS[1]}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"documents": TEXTS, "top_n": -1}, "top_n"),
        ({"documents": TEXTS, "max_tokens_per_doc": 0}, "max_tokens_per_doc"),
        ({"documents": []}, "documents"),
        ({}, "documents"),
        ({"documents": [1]}, "documents"),
        ({"documents": TEXTS, "query": " "}, "query"),
        ({"documents": ["x"] * 1001}, "documents"),
    ],
)
async def test_a_bad_value_is_a_400_in_three_dialects(
    client: httpx.AsyncClient, body: dict[str, Any], param: str
) -> None:
    response = await rerank(client, **body)
    assert response.status_code == 400
    data = response.json()
    assert data["error"]["param"] == param
    assert data["detail"] == data["message"] == data["error"]["message"]
    assert param in data["detail"]


@pytest.mark.parametrize("field", ["documents", "texts"])
async def test_documents_have_so_many_bytes_together(client: httpx.AsyncClient, field: str) -> None:
    """Else the reranker tokenizes for minutes, whoever waits behind."""
    fits: dict[str, Any] = {field: ["é" * 500_000] * 4}
    assert (await rerank(client, **fits)).status_code == 200
    fits[field].append("x")
    response = await rerank(client, **fits)
    assert response.status_code == 400
    assert f"{field}: has 4000001 bytes" in response.json()["message"]


@pytest.mark.parametrize(
    "body",
    [
        {"texts": []},
        {"texts": TEXTS, "query": ""},
        {"texts": TEXTS, "model": "x"},
        {"texts": TEXTS, "query": "w " * 600},
    ],
)
async def test_errors_of_a_request_with_texts_are_teis(
    client: httpx.AsyncClient, body: dict[str, Any]
) -> None:
    response = await rerank(client, "/rerank", **body)
    assert response.status_code in (400, 404, 422)
    assert isinstance(response.json()["error"], str)
    assert response.json()["error_type"] == "Validation"


async def test_an_unknown_model_is_named(client: httpx.AsyncClient) -> None:
    response = await rerank(client, documents=TEXTS, model="rerank-v3")
    assert response.status_code == 404
    assert "hyperrag-reranker" in response.json()["detail"]
