"""GET /metrics: complete, open to whom it should be, and about nobody."""

import asyncio
from dataclasses import replace
from hashlib import sha256
from typing import Any

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from starlette.types import Message, Receive, Scope, Send

from actors.errors import OverloadedError, UnavailableError
from cluster.ingress.envelope import Envelope, JsonErrors
from cluster.ingress.keys import ApiKeys, Caller
from cluster.metrics.request import Instruments
from cluster.services import Services
from tests.cluster.ingress.conftest import MakeApp, connect
from tests.cluster.ingress.test_app import failing, slow_question
from tests.cluster.metrics.series import Series, moved, parsed, series_of

ASK = {"question": "is the sky blue", "top_k": 1}
ROUTE = 'method="POST",replica="1",route="/v1/rag/query"'


class Gone:
    """A part of the service that does not answer."""

    async def status(self, timeout_s: float) -> Any:
        raise UnavailableError("nobody is there")

    async def families(self, timeout_s: float) -> Any:
        raise UnavailableError("one of them does not answer")


async def scraped(http: httpx.AsyncClient) -> Series:
    response = await http.get("/metrics")
    assert response.status_code == 200, response.text
    return parsed(response.text)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_question_moves_requests_stages_and_tokens(
    filled: httpx.AsyncClient, stream: bool
) -> None:
    before = await scraped(filled)
    response = await filled.post("/v1/rag/query", json={**ASK, "stream": stream})
    assert response.status_code == 200
    changes = moved(before, await scraped(filled))
    assert changes[f'hyperrag_requests_total{{{ROUTE},status="200"}}'] == 1
    assert changes[f"hyperrag_request_duration_seconds_count{{{ROUTE}}}"] == 1
    assert changes['hyperrag_time_to_first_token_seconds_count{mode="full",replica="1"}'] == 1
    for stage in ("search", "rerank", "generate"):
        name = f'hyperrag_stage_duration_seconds_count{{replica="1",stage="{stage}"}}'
        assert changes[name] == 1
    assert changes['hyperrag_tokens_total{kind="prompt",replica="1"}'] == 10
    assert changes['hyperrag_tokens_total{kind="completion",replica="1"}'] == 4


async def test_the_whole_is_in_one_scrape(filled: httpx.AsyncClient) -> None:
    found = await scraped(filled)
    parts = ("retriever", "corpus", "reranker", "generator", "store", "ingress")
    assert {name: found[f'hyperrag_part_up{{part="{name}"}}'] for name in parts} == dict.fromkeys(
        parts, 1
    )
    assert found['hyperrag_tier_segments{node="here",tier="dram"}'] == 4
    assert found['hyperrag_requests_in_progress{replica="1"}'] == 1, "the scrape itself"
    assert sum(name.startswith("hyperrag_replica_queue_length") for name in found) == 1


async def test_the_rest_is_there_while_a_part_is_away(
    make_app: MakeApp, services: Services
) -> None:
    gone: Any = Gone()
    async with connect(make_app(parts=replace(services, generator=gone, store=gone))) as http:
        found = await scraped(http)
    assert found['hyperrag_part_up{part="generator"}'] == 0
    assert found['hyperrag_part_up{part="store"}'] == 0
    assert found['hyperrag_part_up{part="reranker"}'] == 1
    assert not any(name.startswith(("hyperrag_tier", "hyperrag_member")) for name in found)
    assert any(name.startswith("hyperrag_replica_computed_segments_total") for name in found)


async def test_a_broken_stream_and_a_full_queue_are_counted(
    make_app: MakeApp, services: Services
) -> None:
    body = {"prompt": "x", "hyperrag": {"retrieve": False}, "stream": True}
    parts = failing(services, OverloadedError("the generator's queue"))
    async with connect(make_app(parts=parts)) as http:
        response = await http.post("/v1/completions", json=body)
        assert response.status_code == 200, "the headers were out"
        found = await scraped(http)
    labels = 'method="POST",replica="1",route="/v1/completions"'
    assert found[f'hyperrag_requests_total{{{labels},status="429"}}'] == 1
    assert found['hyperrag_refusals_total{queue="generator\'s queue",replica="1"}'] == 1


async def test_a_bug_behind_the_headers_is_counted_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    instruments = Instruments("1", 9)

    async def breaks(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise KeyError("a bug")

    async def nothing(*_: Message) -> Message:
        return {"type": "http.disconnect"}

    envelope: Any = Envelope(JsonErrors(breaks), instruments, echo_id=True)
    await envelope({"type": "http", "method": "GET", "path": "/", "headers": []}, nothing, nothing)
    name = 'hyperrag_requests_total{method="GET",replica="1",route="none",status="500"}'
    assert series_of(instruments.families())[name] == 1
    assert "a bug" in caplog.text


async def test_a_full_ingress_refuses_requests_but_not_the_scrape(make_app: MakeApp) -> None:
    app, leave = make_app(max_queued_requests=1), asyncio.Event()
    async with connect(app) as http:
        await http.post("/v1/documents", json={"text": "the sky is blue"})
        question = slow_question(app, leave)
        await asyncio.sleep(0.3)
        assert (await http.get("/v1/models")).status_code == 429
        found = await scraped(http)
        leave.set()
        await asyncio.wait_for(question, 5)
    assert found['hyperrag_refusals_total{queue="ingress",replica="1"}'] == 1
    assert found['hyperrag_requests_in_progress{replica="1"}'] == 2
    assert found['hyperrag_requests_limit{replica="1"}'] == 1


async def test_it_takes_a_key_where_there_are_keys_and_names_no_tenant(make_app: MakeApp) -> None:
    names = {b"k1": Caller("acme"), b"k2": Caller("prometheus")}
    keys = ApiKeys({sha256(key).digest(): caller for key, caller in names.items()})
    async with connect(make_app(keys=keys)) as http:
        assert (await http.get("/metrics")).status_code == 401
        headers = {"Authorization": "Bearer k1", "X-Request-Id": "secret-id"}
        document = {"id": "secret-document", "text": "secret text", "collection": "secret-c"}
        await http.post("/v1/documents", json=document, headers=headers)
        asked = {"question": "secret", "collection": "secret-c"}
        await http.post("/v1/rag/query", json=asked, headers=headers)
        await http.get("/secret-path", headers=headers)
        response = await http.get("/metrics", headers={"Authorization": "Bearer k2"})
    assert response.status_code == 200
    assert "secret" not in response.text and "acme" not in response.text


async def test_open_metrics_for_who_asks_for_it(filled: httpx.AsyncClient) -> None:
    accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
    response = await filled.get("/metrics", headers={"Accept": accept})
    assert response.headers["content-type"].startswith("application/openmetrics-text")
    families = text_string_to_metric_families(response.text)  # type: ignore[no-untyped-call]
    found = series_of(families)
    assert found['hyperrag_part_up{part="ingress"}'] == 1
