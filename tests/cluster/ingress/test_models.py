"""Names of models: without retrieval, by collection, and those that clients insist on."""

from dataclasses import replace
from typing import Any

import httpx
import pytest

from actors.errors import UnavailableError
from cluster.services import Services
from tests.cluster.ingress.conftest import MakeApp, connect
from tests.cluster.near import NearGenerator

SKY = "is the sky blue"
ALIASES = {
    "jina-reranker-*": "hyperrag-reranker",
    "rerank-v3.5": "hyperrag-reranker",
    "gpt-4o": "hyperrag",
    "gpt-*": "hyperrag-plain",
    "stones": "hyperrag@rocks",
}


async def chat(http: httpx.AsyncClient, model: str, **body: Any) -> Any:
    asked = {"model": model, "messages": [{"role": "user", "content": SKY}], **body}
    response = await http.post("/v1/chat/completions", json=asked)
    assert response.status_code == 200, response.text
    assert response.json()["model"] == model
    return response.json()


def found(answer: Any) -> list[str]:
    return [source["document_id"] for source in answer["hyperrag"]["sources"]]


async def test_a_plain_model_searches_nothing(
    filled: httpx.AsyncClient, services: Services
) -> None:
    assert found(await chat(filled, "hyperrag-plain")) == []
    assert isinstance(services.generator, NearGenerator)
    assert services.generator.requests[-1].passages == ()
    assert found(await chat(filled, "hyperrag-plain", hyperrag={"retrieve": True})) != []
    body = {"model": "hyperrag-plain", "prompt": "once upon"}
    data = (await filled.post("/v1/completions", json=body)).json()
    assert data["choices"][0]["text"] == "once upon "
    assert services.generator.requests[-1].raw_prompt == "once upon"


async def test_a_collection_is_a_model(filled: httpx.AsyncClient) -> None:
    await filled.post("/v1/documents", json={"id": "r", "text": "lava is", "collection": "rocks"})
    assert found(await chat(filled, "hyperrag@rocks")) == ["r"]
    other = {"collection": "default"}
    assert found(await chat(filled, "hyperrag@rocks", hyperrag=other))[0] == "sky"
    body = {"messages": [{"role": "user", "content": SKY}]}
    for name, status in (("hyperrag@none", 404), ("hyperrag@a/b", 400), ("other@rocks", 404)):
        done = await filled.post("/v1/chat/completions", json={**body, "model": name})
        assert done.status_code == status, done.text


async def test_models_say_what_they_are_for(filled: httpx.AsyncClient) -> None:
    listed = (await filled.get("/v1/models")).json()["data"]
    assert {one["id"]: one["type"] for one in listed} == {
        "hyperrag": "chat",
        "hyperrag-plain": "chat",
        "hyperrag-reranker": "rerank",
        "hyperrag-embedder": "embedding",
        "hyperrag@default": "chat",
    }
    assert [one["id"] for one in listed if not one["capabilities"]["completion_chat"]] == [
        "hyperrag-reranker",
        "hyperrag-embedder",
    ]
    for one in listed:
        assert (await filled.get(f"/v1/models/{one['id']}")).json() == one
    missing = await filled.get("/v1/models/none")
    assert missing.status_code == 404
    assert missing.json()["error"]["code"] == "model_not_found"
    assert (await filled.get("/v1/models/hyperrag@none")).status_code == 404


async def test_models_are_listed_without_the_corpus(make_app: MakeApp, services: Services) -> None:
    class Away:
        async def collections(self, tenant: str, timeout_s: float) -> list[str]:
            raise UnavailableError("no corpus")

    away: Any = Away()
    async with connect(make_app(parts=replace(services, corpus=away))) as http:
        assert len((await http.get("/v1/models")).json()["data"]) == 4


async def test_aliases_stand_for_models(make_app: MakeApp) -> None:
    async with connect(make_app(model_aliases=ALIASES)) as http:
        await http.post("/v1/documents", json={"id": "sky", "text": "the sky"})
        await http.post("/v1/documents", json={"id": "r", "text": "is", "collection": "rocks"})
        assert found(await chat(http, "gpt-4o")) == ["sky"], "the exact name wins over a pattern"
        assert found(await chat(http, "gpt-4.1")) == []
        assert found(await chat(http, "stones")) == ["r"]
        body = {"query": SKY, "documents": ["the sky"]}
        for name in ("rerank-v3.5", "jina-reranker-v2-base"):
            done = await http.post("/v1/rerank", json={**body, "model": name})
            assert (done.status_code, done.json()["model"]) == (200, name)
            assert (await http.get(f"/v1/models/{name}")).json()["type"] == "rerank"
        for name in ("rerank-v3x5", "my-jina-reranker-v2"):
            done = await http.post("/v1/rerank", json={**body, "model": name})
            assert done.status_code == 404


@pytest.mark.parametrize("model", ["hyperrag-reranker", "none"])
async def test_a_reranker_does_not_chat(filled: httpx.AsyncClient, model: str) -> None:
    body = {"model": model, "messages": [{"role": "user", "content": SKY}]}
    response = await filled.post("/v1/chat/completions", json=body)
    assert response.status_code == 404
    assert "allowed: hyperrag, hyperrag-plain" in response.json()["message"]
