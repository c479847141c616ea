"""The application on a real Ray cluster: deployed through the schema, asked over HTTP, killed."""

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.cluster.raw_http import begun
from tests.cluster.running import Running, serving

pytestmark = pytest.mark.ray

ASK = {"question": "is the sky blue", "top_k": 1}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    ingress = {"sse_keepalive_s": 0.4, "body_timeout_s": 2.0}
    with serving(tmp_path_factory.mktemp("serve"), ingress=ingress) as service:
        yield service


@pytest.fixture(scope="module")
def http(running: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=running.url, timeout=60) as client:
        documents = [
            {"id": "sky", "text": "the sky is blue"},
            {"id": "snow", "text": "snow is white"},
        ]
        response = client.post("/v1/documents", json={"documents": documents})
        assert response.json()["searchable"], response.text
        yield client


def replica(http: httpx.Client, name: str) -> dict[str, Any]:
    [status] = http.get("/v1/status").json()["deployments"][name]["replicas"]
    assert isinstance(status, dict)
    return status


def data_lines(response: httpx.Response) -> Iterator[str]:
    return (line for line in response.iter_lines() if line.startswith("data:"))


def running_pids(http: httpx.Client, name: str) -> list[int]:
    replicas = http.get("/v1/status").json()["deployments"][name]["replicas"]
    return [one["pid"] for one in replicas]


def test_every_deployment_is_reported_and_ready(running: Running, http: httpx.Client) -> None:
    for name in ("Ingress", "Retriever", "CorpusService", "Reranker", "Generator"):
        assert f"{name}: healthy" in running.lines
    assert http.get("/readyz").status_code == 200


def test_a_question_passes_through_all_of_them(http: httpx.Client) -> None:
    data = http.post("/v1/rag/query", json=ASK).json()
    assert data["answer"] == "the sky is blue "
    assert data["sources"][0]["document_id"] == "sky"
    assert len({replica(http, n)["pid"] for n in ("retriever", "reranker", "generator")}) == 3


def test_tokens_stream_as_they_are_made(http: httpx.Client) -> None:
    body = {"question": "slowly is the sky blue", "top_k": 1, "stream": True}
    times: list[float] = []
    with http.stream("POST", "/v1/rag/query", json=body) as response:
        for line in data_lines(response):
            times += [time.monotonic()] if '"delta"' in line else []
    assert len(times) == 4
    assert times[-1] - times[0] > 2.5


def test_a_stream_that_waits_carries_comments(http: httpx.Client) -> None:
    """A word takes a second; the headers come without waiting for the first."""
    body = {"question": "slowly is the sky blue", "top_k": 1, "stream": True}
    started = time.monotonic()
    with http.stream("POST", "/v1/rag/query", json=body) as response:
        headers_after_s = time.monotonic() - started
        lines = [line for line in response.iter_lines() if line]
    kinds = "".join("c" if line == ": keep-alive" else "d" for line in lines)
    assert re.fullmatch(r"(c+d){4}c*dd", kinds), lines
    assert headers_after_s < 0.9
    assert lines[-1] == "data: [DONE]"


def test_errors_keep_their_fields_across_processes(http: httpx.Client) -> None:
    body = {"query": "word " * 600, "documents": ["x"]}
    response = http.post("/v1/rerank", json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "query"
    response = http.post("/v1/rag/query", json={**ASK, "collection": "none"})
    assert response.status_code == 404


def test_the_door_sees_host_origin_and_kind_behind_serves_proxy(http: httpx.Client) -> None:
    before = http.get("/v1/documents").json()
    assert http.get("/v1/documents", headers={"Host": "evil.example"}).status_code == 403
    body = {"text": "from elsewhere"}
    foreign = http.post("/v1/documents", json=body, headers={"Origin": "https://evil.example"})
    assert foreign.json()["error"]["code"] == "origin_not_allowed"
    own = http.post("/v1/rag/query", json=ASK, headers={"Origin": str(http.base_url).rstrip("/")})
    assert own.status_code == 200
    text = http.post("/v1/documents", content=json.dumps(body))
    assert (text.status_code, text.json()["error"]["code"]) == (415, "unsupported_media_type")
    assert http.get("/v1/documents").json() == before


def test_who_may_not_call_is_told_before_the_body_comes(running: Running) -> None:
    size = f"Content-Length: {40 * 2**20}"
    headers = ("Content-Type: application/json", size, "Origin: https://evil.example")
    answer = begun(running.url, "/v1/documents", *headers)
    assert answer.startswith(b"HTTP/1.1 403 ") and b"origin_not_allowed" in answer


def test_a_body_that_stops_is_a_408_and_the_end_of_the_connection(running: Running) -> None:
    headers = ("Content-Type: application/json", "Content-Length: 1000")
    answer = begun(running.url, "/v1/documents", *headers, body=b"{")
    assert answer.startswith(b"HTTP/1.1 408 ") and not answer.endswith(b"(open)")
    assert b"for 2 s (ingress.body_timeout_s)" in answer


def test_a_request_id_comes_back_once(http: httpx.Client) -> None:
    response = http.get("/healthz", headers={"X-Request-Id": "abc-1"})
    assert response.headers.get_list("X-Request-Id") == ["abc-1"]


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_cancels_the_generator(http: httpx.Client, stream: bool) -> None:
    before = replica(http, "generator")["cancelled"]
    body = {"question": "slowly is the sky blue", "top_k": 1, "stream": stream}
    if stream:
        with http.stream("POST", "/v1/rag/query", json=body) as response:
            assert '"delta"' in next(data_lines(response))
    else:
        with pytest.raises(httpx.ReadTimeout):
            http.post("/v1/rag/query", json=body, timeout=1.0)
    deadline = time.monotonic() + 3  # the answer would take four seconds
    while replica(http, "generator")["cancelled"] == before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert replica(http, "generator")["cancelled"] == before + 1


@pytest.mark.parametrize("name", ["reranker", "generator", "retriever"])
def test_a_killed_replica_comes_back(http: httpx.Client, name: str) -> None:
    pid = replica(http, name)["pid"]
    os.kill(pid, signal.SIGKILL)
    response = http.post("/v1/rerank", json={"query": "sky", "documents": ["the sky"]})
    if name == "reranker":  # asked again by itself
        assert response.status_code == 200, response.text
    deadline = time.monotonic() + 40
    while not (pids := running_pids(http, name)) or pids == [pid]:
        assert time.monotonic() < deadline
        ready = http.get("/readyz")
        assert ready.status_code == 200 or name in ready.json()["error"]["message"]
        assert "failed" not in ready.text, "it starts anew"
        time.sleep(0.2)
    while http.get("/readyz").status_code != 200:  # up to a second later
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_replica_killed_while_it_streams_is_an_error_event(http: httpx.Client) -> None:
    http.post("/v1/documents", json={"id": "snow", "text": "snow is white now"})
    pid = replica(http, "generator")["pid"]
    body = {"question": "slowly is the sky blue", "top_k": 1, "stream": True}
    lines: list[str] = []
    with http.stream("POST", "/v1/rag/query", json=body) as response:
        for line in data_lines(response):
            lines.append(line)
            if len(lines) == 1:
                os.kill(pid, signal.SIGKILL)
    assert lines[-1] == "data: [DONE]"
    error = json.loads(lines[-2].removeprefix("data: "))["error"]
    assert error["type"] == "unavailable_error"


def test_a_second_one_says_who_has_the_data_directory(running: Running) -> None:
    second = Running(running.folder)
    try:
        assert second.wait() != 0
        assert f"process {running.process.pid}, {running.url}" in "\n".join(second.lines)
    finally:
        second.end()


def test_it_stops_without_leaving_anything(running: Running, http: httpx.Client) -> None:
    assert len(running.left()) > 5
    running.signal(signal.SIGTERM)
    assert running.wait() == 128 + signal.SIGTERM
    assert running.left() == []
