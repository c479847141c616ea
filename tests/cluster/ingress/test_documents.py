"""/v1/documents."""

from typing import Any

import httpx
import pytest

from actors.errors import UnavailableError
from cluster.services import Services
from tests.cluster.ingress.conftest import DOCUMENTS, MakeApp, connect


async def test_one_document_is_searchable_at_once(client: httpx.AsyncClient) -> None:
    body = {"text": "lava is hot", "collection": "rocks", "metadata": {"a": 1}}
    data = (await client.post("/v1/documents", json=body)).json()
    assert (data["collection"], data["added"], data["searchable"]) == ("rocks", 1, True)
    asked = {"question": "is lava hot", "collection": "rocks"}
    sources = (await client.post("/v1/rag/query", json=asked)).json()["sources"]
    assert [s["document_id"] for s in sources] == data["ids"]


async def test_the_same_text_without_an_id_is_the_same_document(client: httpx.AsyncClient) -> None:
    first = (await client.post("/v1/documents", json={"text": "lava is hot"})).json()
    again = (await client.post("/v1/documents", json={"text": "lava is hot"})).json()
    assert first["ids"] == again["ids"]
    assert (again["added"], again["unchanged"]) == (0, 1)


async def test_segments_of_replaced_passages_are_forgotten(
    filled: httpx.AsyncClient, services: Services
) -> None:
    await filled.post("/v1/rag/query", json={"question": "is the sky blue"})
    reranker: Any = services.reranker
    assert DOCUMENTS[0]["text"] in reranker.part._seen
    await filled.post("/v1/documents", json={"id": "sky", "text": "the sky is red"})
    assert DOCUMENTS[0]["text"] not in reranker.part._seen


async def test_files_are_read(client: httpx.AsyncClient) -> None:
    files = [("file", ("a.txt", b"one\ntwo")), ("file", ("b.txt", b"three"))]
    response = await client.post("/v1/documents", files=files, data={"collection": "files"})
    assert response.json()["ids"] == ["a.txt-0", "a.txt-1", "b.txt-0"]
    listing = (await client.get("/v1/documents", params={"collection": "files"})).json()
    assert listing["total"] == 3


async def test_a_form_without_a_file_is_refused(client: httpx.AsyncClient) -> None:
    files = {"collection": (None, b"files")}
    response = await client.post("/v1/documents", files=files)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "file"


async def test_the_listing_has_pages(filled: httpx.AsyncClient) -> None:
    page = (await filled.get("/v1/documents", params={"limit": 2})).json()
    assert [d["id"] for d in page["documents"]] == ["grass", "sky"]
    rest = {"limit": 2, "after": page["next_after"]}
    page = (await filled.get("/v1/documents", params=rest)).json()
    assert [d["id"] for d in page["documents"]] == ["snow"]
    assert page["next_after"] is None


@pytest.mark.parametrize("limit", [0, 1001, "x"])
async def test_a_bad_limit_is_named(client: httpx.AsyncClient, limit: Any) -> None:
    response = await client.get("/v1/documents", params={"limit": limit})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "limit"


async def test_a_deleted_document_is_not_found_any_more(filled: httpx.AsyncClient) -> None:
    data = (await filled.delete("/v1/documents/sky")).json()
    assert data["deleted"] and data["searchable"] and data["segments_removed"]
    answer = (await filled.post("/v1/rag/query", json={"question": "is the sky blue"})).json()
    assert "sky" not in [s["document_id"] for s in answer["sources"]]
    response = await filled.delete("/v1/documents/sky")
    assert response.status_code == 404


@pytest.mark.parametrize("part", ["reranker", "generator"])
async def test_segments_that_may_come_back_are_no_success(
    make_app: MakeApp, services: Services, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    async with connect(make_app()) as http:
        body = {"documents": DOCUMENTS}
        assert (await http.post("/v1/documents", json=body)).json()["segments_removed"]

        async def fail(*_: Any) -> int:
            raise UnavailableError("the disk of node 7 failed")

        monkeypatch.setattr(getattr(services, part), "forget", fail)
        changed = {"documents": [{"id": "sky", "text": "the sky is grey"}]}
        data = (await http.post("/v1/documents", json=changed)).json()
        assert data["searchable"] and not data["segments_removed"]
        data = (await http.delete("/v1/documents/grass")).json()
        assert data["deleted"] and data["searchable"] and not data["segments_removed"]


async def test_an_id_may_have_slashes(client: httpx.AsyncClient) -> None:
    await client.post("/v1/documents", json={"id": "a/b c", "text": "x"})
    response = await client.delete("/v1/documents/a%2Fb%20c")
    assert response.json()["id"] == "a/b c"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "documents"),
        ({"text": "a", "documents": []}, "documents"),
        ({"documents": []}, "documents"),
        ({"documents": [{"id": "a"}]}, "documents[0].text"),
        ({"text": "a", "collection": "a/b"}, "collection"),
        ({"text": 5}, "text"),
    ],
)
async def test_a_bad_body_names_the_field(
    client: httpx.AsyncClient, body: dict[str, Any], param: str
) -> None:
    response = await client.post("/v1/documents", json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


async def test_what_the_corpus_refuses_is_a_400(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/documents", json={"text": "  "})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "documents[0].text"
