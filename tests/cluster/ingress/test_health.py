"""Probes, status and maintenance."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
from starlette.types import ASGIApp

from actors.engine.config import FusionConfig, GeneratorConfig
from actors.errors import UnavailableError
from actors.messages import FusedSegment
from cluster.config import HyperRagConfig
from cluster.services import Services
from tests.cluster.ingress.conftest import MakeApp, connect
from tests.cluster.ingress.test_rag import events
from tests.cluster.near import NearGenerator


class Gone:
    async def status(self, timeout_s: float) -> list[dict[str, Any]]:
        raise UnavailableError("generator has no running replica")


async def test_probes(client: httpx.AsyncClient) -> None:
    assert (await client.get("/healthz")).json() == {"status": "ok"}
    assert (await client.get("/readyz")).json()["status"] == "ready"


async def test_a_missing_deployment_is_not_ready(
    make_app: Callable[..., ASGIApp], services: Services
) -> None:
    parts: Any = replace(services, generator=Gone())  # type: ignore[arg-type]
    async with connect(make_app(parts=parts)) as http:
        response = await http.get("/readyz")
        assert response.status_code == 503
        assert int(response.headers["Retry-After"]) >= 1
        assert "generator has no running replica" in response.json()["message"]
        assert (await http.get("/healthz")).status_code == 200
        status = (await http.get("/v1/status")).json()
    assert status["deployments"]["generator"]["status"] == "unavailable"
    assert status["deployments"]["retriever"]["status"] == "ok"


async def test_status_has_tiers_and_hit_rates(client: httpx.AsyncClient) -> None:
    status = (await client.get("/v1/status")).json()
    assert set(status["deployments"]) == {"retriever", "corpus", "reranker", "generator"}
    assert status["hit_rates"]["reranker"] == 0.75
    assert [node["name"] for node in status["store"]["nodes"]] == ["here", "there"]
    assert status["tiers"] == {"dram": {"num_segments": 8, "capacity_bytes": 128}}, "of both nodes"


async def test_warming_goes_page_by_page(client: httpx.AsyncClient) -> None:
    documents = [{"id": f"{i:03}", "text": f"text {i}"} for i in range(40)]
    await client.post("/v1/documents", json={"documents": documents})
    pages = events((await client.post("/v1/warm", json={"stream": True})).text)
    assert [page["num_passages"] for page in pages] == [16, 32, 40]
    assert [page["done"] for page in pages] == [False, False, True]
    again = (await client.post("/v1/warm")).json()
    assert (again["cache"]["dram_hits"], again["cache"]["computed"]) == (40, 0)


async def test_warming_can_be_continued(client: httpx.AsyncClient) -> None:
    documents = [{"id": f"{i:03}", "text": f"text {i}"} for i in range(20)]
    await client.post("/v1/documents", json={"documents": documents})
    page = (await client.post("/v1/warm", json={"limit": 18})).json()
    assert (page["num_passages"], page["done"]) == (18, False)
    page = (await client.post("/v1/warm", json={"after": page["next_after"]})).json()
    assert (page["num_passages"], page["done"]) == (2, True)


FUSION = HyperRagConfig(generator=GeneratorConfig(mode="auto", fusion=FusionConfig(neighbours=3)))


async def test_fusing_goes_page_by_page_and_drops_what_it_replaces(
    make_app: MakeApp, services: Services
) -> None:
    documents = [{"id": f"{i:03}", "text": f"text {i}"} for i in range(20)]
    documents.append({"id": "999", "text": "Old text"})
    async with connect(make_app(config=FUSION)) as http:
        await http.post("/v1/documents", json={"documents": documents})
        pages = events((await http.post("/v1/fuse", json={"stream": True})).text)
        again = (await http.post("/v1/fuse")).json()
    assert [page["num_passages"] for page in pages] == [16, 21]
    assert pages[-1]["done"] and pages[-1]["cache"]["computed"] == 3 * 21
    assert again["cache"]["computed"] == 0, "what is there is left alone"
    assert isinstance(services.generator, NearGenerator)
    assert services.generator.part.forgotten == 2 * [FusedSegment("Old text", b"before")]


async def test_fusing_needs_a_mode_that_uses_it(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/fuse")
    assert response.status_code == 400
    assert "fusion and auto" in response.json()["message"]


async def test_a_lone_passage_has_nothing_to_be_fused_with(make_app: MakeApp) -> None:
    async with connect(make_app(config=FUSION)) as http:
        await http.post("/v1/documents", json={"text": "alone"})
        page = (await http.post("/v1/fuse")).json()
    assert (page["num_passages"], page["cache"]["computed"], page["done"]) == (1, 0, True)


async def test_a_node_is_drained_by_its_name(client: httpx.AsyncClient) -> None:
    done = await client.post("/v1/drain", json={"node": "there"})
    assert done.json() == {"node": "there", "state": "draining"}
    wrong = await client.post("/v1/drain", json={"node": "elsewhere"})
    assert wrong.status_code == 400
    assert wrong.json()["error"]["param"] == "node" and "here, there" in wrong.text


async def test_check_asks_the_store(client: httpx.AsyncClient) -> None:
    assert (await client.post("/v1/check")).json()["repaired"] == 0
    assert (await client.post("/v1/check", json={"repair": True})).json()["repaired"] == 1
